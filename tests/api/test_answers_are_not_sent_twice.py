"""ETag and 304, gzip for who takes it, If-Match against edits of others, and limits that are named in headers."""

import gzip
import json

import pytest

from training.services import edit


def test_what_did_not_change_is_not_sent_again(api, make_job):
    job = make_job()
    for path in (f"/v1/training/jobs/{job.pk}", "/v1/training/recipes", "/v1/training/jobs"):
        first = api.get(path)
        again = api.get(path, headers={"If-None-Match": f'"x", {first["ETag"]}'})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    edit(job, by=job.owner, description="new")
    changed = api.get("/v1/training/jobs", headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200


@pytest.mark.parametrize(
    ("takes", "packed"),
    [("gzip, br", True), ("gzip;q=0", False), ("gzip;q=0.5", True), ("br", False), ("", False)],
)
def test_long_answers_are_compressed_for_who_takes_it(api, takes, packed):
    answer = api.get("/v1/training/recipes", headers={"Accept-Encoding": takes})
    assert answer.get("Content-Encoding") == ("gzip" if packed else None)
    text = gzip.decompress(answer.content) if packed else answer.content
    assert json.loads(text)["results"]
    assert int(answer.get("Content-Length", len(answer.content))) == len(answer.content)


def test_an_edit_of_somebody_else_is_not_overwritten(api, make_job):
    job = make_job(status="running")
    path = f"/v1/training/jobs/{job.pk}"
    read = api.get(path)["ETag"]
    type(job).objects.filter(pk=job.pk).update(current_step=7)  # what a training does is no edit
    mine = api.patch(path, {"description": "mine"}, format="json", headers={"If-Match": read})
    assert (mine.status_code, mine.json()["description"]) == (200, "mine")
    theirs = api.patch(path, {"description": "theirs"}, format="json", headers={"If-Match": f"W/{read}"})
    assert (theirs.status_code, theirs.json()["error"]["code"]) == (412, "precondition_failed")
    assert api.get(path).json()["description"] == "mine"
    for fine in (mine["ETag"], "*", f'"x", {mine["ETag"]}'):
        answer = api.patch(path, {"description": "mine"}, format="json", headers={"If-Match": fine})
        assert answer.status_code == 200


def test_an_answer_says_how_much_may_still_be_asked(api, make_job, settings):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"DEFAULT_THROTTLE_RATES": {"verbs": "2/min"}}
    path = f"/v1/training/jobs/{make_job().pk}"
    answers = [api.patch(path, {"priority": 1}, format="json") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert answers[0]["RateLimit-Limit"] == "2"
    assert 0 < int(answers[2]["RateLimit-Reset"]) <= 60
    assert "RateLimit-Limit" not in api.get(path)
