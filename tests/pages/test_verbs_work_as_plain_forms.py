import re

import pytest

from tests.pages.conftest import html, words
from training.models import TrainingJob

pytestmark = pytest.mark.django_db


def test_get_asks_and_changes_nothing_post_does_it(browse, make_job, alice):
    job, client = make_job(status="running", step=4, epoch=1), browse(alice)
    asked = html(client.get(f"/jobs/{job.pk}/pause/"))
    assert "At the end of epoch 2" in words(asked)
    assert re.search(r'value="epoch" checked', asked)
    job.refresh_from_db()
    assert job.stop == ""
    answer = client.post(f"/jobs/{job.pk}/pause/")
    assert (answer.status_code, answer["Location"]) == (302, f"/jobs/{job.pk}/")
    assert answer["X-Heimdall-Answer"] == "noted"
    job.refresh_from_db()
    assert (job.status, job.stop, job.stop_at) == ("running", "pause", "epoch")
    assert "will pause at the end of epoch 2" in words(html(client.get(answer["Location"])))


def test_pause_takes_the_next_step_and_nothing_unknown(browse, make_job, alice):
    job, client = make_job(status="running"), browse(alice)
    assert client.post(f"/jobs/{job.pk}/pause/", {"at": "tea"})["X-Heimdall-Answer"] == "invalid"
    assert client.post(f"/jobs/{job.pk}/pause/", {"at": "step"})["X-Heimdall-Answer"] == "noted"
    job.refresh_from_db()
    assert job.stop_at == "step"


@pytest.mark.parametrize(
    ("state", "verb", "answer"),
    [
        ({"status": "queued"}, "pause", "done"),
        ({"status": "paused"}, "pause", "already"),
        ({"status": "paused"}, "resume", "noted"),
        ({"status": "running", "stop": "pause"}, "resume", "done"),
        ({"status": "completed"}, "pause", "refused"),
        ({"status": "paused"}, "delete", "refused"),
        ({"status": "paused"}, "discard", "done"),
        ({"status": "failed"}, "restart", "noted"),
        ({"status": "queued", "job_type": "synthetic_data"}, "pause", "refused"),
    ],
)
def test_each_answer_is_said_in_the_header_in_json_and_in_words(browse, make_job, alice, state, verb, answer):
    job, other, client = make_job(**state), make_job(**state), browse(alice)
    plain = client.post(f"/jobs/{job.pk}/{verb}/")
    assert (plain.status_code, plain["X-Heimdall-Answer"]) == (302, answer)
    script = client.post(f"/jobs/{other.pk}/{verb}/", headers={"accept": "application/json"})
    assert script.status_code == {"refused": 409, "noted": 202}.get(answer, 200)
    assert script.json()["answer"] == answer
    message = script.json()["message"].replace(f"Job {other.pk}", f"Job {job.pk}")
    assert message in words(html(client.get(plain["Location"])))


def test_a_deleted_job_leads_back_to_the_list(browse, make_job, alice):
    job, client = make_job(status="completed"), browse(alice)
    answer = client.post(f"/jobs/{job.pk}/delete/", {"next": f"/jobs/{job.pk}/"})
    assert answer["Location"] == "/"
    assert not TrainingJob.objects.filter(pk=job.pk).exists()
    assert client.get(f"/jobs/{job.pk}/").status_code == 404
    other = make_job(status="completed")
    told = client.post(f"/jobs/{other.pk}/delete/", headers={"accept": "application/json"}).json()
    assert told["gone"]
    assert told["message"] in words(html(client.get("/")))  # the page that asked is gone: the list says it


def test_who_may_not_gets_403_in_words_and_in_json(browse, make_job, bob, viewer):
    job = make_job(status="failed")
    assert browse(bob).post(f"/jobs/{job.pk}/delete/")["X-Heimdall-Answer"] == "not_allowed"
    answer = browse(viewer).post(f"/jobs/{job.pk}/resume/", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["answer"]) == (403, "not_allowed")


def test_a_form_without_the_csrf_token_is_refused(browse, make_job, alice):
    job, client = make_job(status="queued"), browse(alice, enforce_csrf_checks=True)
    assert client.post(f"/jobs/{job.pk}/cancel/").status_code == 403
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', html(client.get(f"/jobs/{job.pk}/cancel/")))[1]
    assert client.post(f"/jobs/{job.pk}/cancel/", {"csrfmiddlewaretoken": token}).status_code == 302


def test_next_never_leads_elsewhere(browse, make_job, alice):
    client = browse(alice)
    for wanted in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        job = make_job(status="queued")
        assert client.post(f"/jobs/{job.pk}/pause/", {"next": wanted})["Location"] == f"/jobs/{job.pk}/"
    job = make_job(status="queued")
    assert client.post(f"/jobs/{job.pk}/pause/", {"next": "/?status=queued"})["Location"] == "/?status=queued"


def test_a_confirmation_that_came_too_late_says_so(browse, make_job, alice):
    job = make_job(status="completed")
    assert "Not possible any more" in html(browse(alice).get(f"/jobs/{job.pk}/pause/"))
