"""Selected jobs, those of a page, or all that match: asked first, each by itself, and told why some were not."""

import pytest

from tests.pages.conftest import html, words
from training.models import Event, TrainingJob
from training.views import bulk

pytestmark = pytest.mark.django_db


@pytest.fixture
def jobs(make_job, alice, bob, mallory):
    return {
        "running": make_job(status="running"),
        "queued": make_job(),
        "done": make_job(status="completed"),
        "bobs": make_job(status="failed", owner=bob),
        "hidden": make_job(owner=mallory, team=None),
    }


def statuses(jobs) -> dict[str, str]:
    found = dict(TrainingJob.objects.values_list("pk", "status"))
    return {name: found.get(job.pk, "gone") for name, job in jobs.items()}


def ids(*jobs) -> list[int]:
    return [job.pk for job in jobs]


def test_it_asks_first_and_changes_nothing(browse, alice, jobs):
    body = {"verb": "pause", "job": ids(jobs["running"], jobs["queued"], jobs["done"]), "next": "/?owner=me"}
    text = html(browse(alice).post("/jobs/many/", body))
    assert "Pause 2 jobs?" in text
    assert "1 of the 3 cannot be asked to pause now" in words(text)
    assert 'name="sure" value="1"' in text
    assert not Event.objects.exists()


def test_each_is_done_by_itself_and_the_others_are_named_with_the_reason(browse, alice, jobs):
    chosen = ids(*jobs.values())
    body = {"verb": "pause", "job": chosen, "sure": "1", "at": "step", "next": "/?owner=me"}
    answer = browse(alice).post("/jobs/many/", body)
    assert (answer.status_code, answer["Location"]) == (302, "/?owner=me")
    told = words(html(answer.client.get("/")))
    assert "Pause: 1 job done, 1 job will pause." in told
    done, bobs = jobs["done"].pk, jobs["bobs"].pk
    assert f"1 job not, #{done}: Cannot pause a completed job" in told
    assert f"1 job not, #{bobs}: Cannot pause a failed job" in told
    jobs["running"].refresh_from_db()
    assert (jobs["running"].stop, jobs["running"].stop_at) == ("pause", "step")
    assert statuses(jobs) == {
        "running": "running", "queued": "paused", "done": "completed", "bobs": "failed", "hidden": "queued",
    }  # fmt: skip


def test_all_that_match_are_those_that_the_filters_show_and_the_verb_may_change(browse, alice, jobs):
    body = {"verb": "delete", "which": "matching", "query": "owner=me&status=completed,failed"}
    text = html(browse(alice).post("/jobs/many/", body))
    assert "Delete 1 job?" in text
    answer = browse(alice).post("/jobs/many/", body | {"sure": "1"}, headers={"accept": "application/json"})
    assert answer.json()["message"] == "Delete: 1 job done."
    assert statuses(jobs) == {
        "running": "running", "queued": "queued", "done": "gone", "bobs": "failed", "hidden": "queued",
    }  # fmt: skip


def test_what_one_may_not_is_told_too(browse, alice, jobs):
    body = {"verb": "delete", "job": ids(jobs["bobs"]), "sure": "1"}
    answer = browse(alice).post("/jobs/many/", body, headers={"accept": "application/json"})
    assert answer.status_code == 409
    assert "you may see, but not delete" in answer.json()["message"]
    assert statuses(jobs)["bobs"] == "failed"


def test_a_page_is_taken_as_it_was_shown(browse, alice, jobs):
    on_page = ",".join(map(str, ids(jobs["queued"], jobs["hidden"])))
    body = {"verb": "cancel", "which": "page", "on_page": on_page, "sure": "1"}
    browse(alice).post("/jobs/many/", body)
    assert (statuses(jobs)["queued"], statuses(jobs)["hidden"]) == ("cancelled", "queued")


def test_more_than_fit_at_once_are_done_in_turns(browse, alice, make_job, monkeypatch):
    monkeypatch.setattr(bulk, "MOST", 3)
    for _ in range(5):
        make_job()
    client, body = browse(alice), {"verb": "cancel", "which": "matching", "query": ""}
    assert "These are the first 3" in html(client.post("/jobs/many/", body))
    for left in (2, 0):
        client.post("/jobs/many/", body | {"sure": "1"})
        assert TrainingJob.objects.filter(status="queued").count() == left


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"verb": "pause"}, "No job is selected"),
        ({"verb": "pause", "job": ["x", "0", "99999999999999999999"]}, "No job is selected"),
        ({"verb": "resume", "which": "matching", "query": "status=queued"}, "No job that matches"),
    ],
)
def test_nothing_to_do_is_said(browse, alice, jobs, body, sentence):
    assert sentence in html(browse(alice).post("/jobs/many/", body))


def test_what_is_no_verb_is_not_there(browse, alice):
    assert browse(alice).post("/jobs/many/", {"verb": "claim"}).status_code == 404
    assert browse(alice).get("/jobs/many/").status_code == 405
