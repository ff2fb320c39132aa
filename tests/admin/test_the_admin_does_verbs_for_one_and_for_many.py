import pytest
from django.contrib.messages import get_messages

from tests.conftest import ALL_STATES
from training import queries
from training.models import TrainingJob

pytestmark = pytest.mark.django_db
LIST = "/admin/training/trainingjob/"


@pytest.fixture
def staff(alice):
    alice.is_staff = True
    alice.save()
    return alice


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


def act(client, action: str, *jobs, **more):
    sent = {"action": action, "_selected_action": [job.pk for job in jobs], "index": "0"} | more
    return client.post(LIST, sent)


def told(answer) -> list[str]:
    return [str(message) for message in get_messages(answer.wsgi_request)]


def statuses(*jobs) -> list[str]:
    return [TrainingJob.objects.get(pk=job.pk).status for job in jobs]


def test_an_action_tells_how_many_were_done_and_why_others_were_not(admin, make_job):
    good = [make_job(status="paused"), make_job(status="paused")]
    bad = make_job(status="completed", job_name="the finished one")
    answer = act(admin, "resume", *good, bad)
    assert statuses(*good, bad) == ["queued", "queued", "completed"]
    done, not_done = told(answer)
    assert done.startswith("Resume: 2 done.")
    assert not_done.startswith("Resume: 1 not done.")
    assert f"Job {bad.pk}, the finished one: Cannot resume a completed job" in not_done


@pytest.mark.parametrize(("action", "at"), [("pause_at_epoch", "epoch"), ("pause_at_step", "step")])
def test_pausing_says_when(admin, make_job, action, at):
    job = make_job(status="running")
    assert act(admin, action, job)["X-Heimdall-Answer"] == "noted"
    job.refresh_from_db()
    assert (job.stop, job.stop_at) == ("pause", at)


@pytest.mark.parametrize(
    ("action", "status", "after"),
    [("restart", "failed", "queued"), ("cancel", "queued", "cancelled"), ("discard", "paused", "cancelled")],
)
def test_what_cannot_be_taken_back_is_asked_first(admin, make_job, action, status, after):
    job = make_job(status=status)
    asked = act(admin, action, job)
    assert asked.status_code == 200
    assert f'name="_selected_action" value="{job.pk}"' in asked.content.decode()
    assert statuses(job) == [status]
    assert act(admin, action, job, confirmed="1")["X-Heimdall-Answer"] in {"done", "noted"}
    assert statuses(job) == [after]


def test_deleting_many_leaves_paused_ones_alone(admin, make_job):
    finished, paused = make_job(status="completed"), make_job(status="paused")
    answer = act(admin, "delete", finished, paused, confirmed="1")
    assert list(TrainingJob.objects.all()) == [paused]
    assert told(answer)[0].startswith("Delete: 1 done.")
    assert "Cannot delete a paused job" in told(answer)[1]


def test_djangos_own_deleting_is_not_offered(admin, make_job):
    job = make_job(status="completed")
    assert "delete_selected" not in admin.get(LIST).content.decode()
    assert admin.post(f"{LIST}{job.pk}/delete/", {"post": "yes"}).status_code == 403
    assert TrainingJob.objects.count() == 1


def test_synthetic_data_is_not_paused_here_either(admin, make_job):
    job = make_job(job_type="synthetic_data")
    assert "Cannot pause synthetic data generation jobs." in told(act(admin, "pause_at_epoch", job))[0]


@pytest.mark.parametrize(("status", "stop"), ALL_STATES)
def test_row_buttons_are_exactly_the_verbs(admin, staff, make_job, status, stop):
    job = make_job(status=status, stop=stop, with_checkpoint=True, step=4, epoch=1)
    verbs = queries.available_verbs(job, staff)
    for address in (LIST, f"{LIST}{job.pk}/change/"):
        text = admin.get(address).content.decode()
        assert sorted(verbs) == sorted(part.split('"')[0] for part in text.split('data-verb="')[1:])


def test_a_row_button_asks_and_then_does_it(admin, make_job):
    job = make_job(status="running", epoch=1, step=4)
    address = f"{LIST}{job.pk}/do/pause/"
    assert "At the end of epoch 2" in admin.get(address).content.decode()
    assert statuses(job) == ["running"]
    answer = admin.post(address, {"at": "step"})
    assert (answer.status_code, answer["X-Heimdall-Answer"]) == (302, "noted")
    job.refresh_from_db()
    assert (job.stop, job.stop_at) == ("pause", "step")
    refused = admin.post(f"{LIST}{job.pk}/do/delete/")
    assert refused["X-Heimdall-Answer"] == "refused"
    assert "Cannot delete a pausing job" in told(refused)[-1]
    late = admin.get(f"{LIST}{job.pk}/do/delete/").content.decode()
    assert "Not possible any more: the job is pausing at the next step." in late


def test_staff_see_and_do_only_what_the_policy_allows(client, make_job, bob, mallory):
    job = make_job(status="failed", job_name="hidden plans")
    for user in (bob, mallory):
        user.is_staff = True
        user.save()
    client.force_login(mallory)
    assert "hidden plans" not in client.get(LIST).content.decode()
    assert client.get(f"{LIST}{job.pk}/change/").status_code == 302  # "there is no such job"
    assert client.get(f"{LIST}{job.pk}/do/resume/").status_code == 404
    client.force_login(bob)
    assert client.post(f"{LIST}{job.pk}/do/restart/")["X-Heimdall-Answer"] == "not_allowed"
    assert act(client, "restart", job, confirmed="1")["X-Heimdall-Answer"] == "not_allowed"
    assert client.post(f"{LIST}{job.pk}/change/", {"job_name": "mine", "priority": "1"}).status_code == 403
    assert statuses(job) == ["failed"]
    assert act(client, "resume", job)["X-Heimdall-Answer"] == "noted"


def test_the_list_filters_searches_and_shows_states_and_progress(admin, make_job):
    make_job(status="running", step=5, epoch=1, total_steps=10, job_name="<b>bold</b>")
    make_job(status="queued", job_name="other")
    text = admin.get(LIST + "?status__exact=running").content.decode()
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>bold</b>" not in text
    assert 'value="50.0"' in text
    assert "other" not in text.split("result_list")[1]
    assert "other" in admin.get(LIST + "?q=oth").content.decode().split("result_list")[1]


def test_names_notes_and_priority_change_through_the_service(admin, make_job):
    job = make_job()
    sent = {"job_name": "renamed", "description": "", "priority": "5"}
    for prefix in ("attempts", "checkpoints", "events"):
        sent |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    assert admin.post(f"{LIST}{job.pk}/change/", sent).status_code == 302
    job.refresh_from_db()
    assert (job.job_name, job.priority) == ("renamed", 5)
    assert job.events.get().kind == "edit"
    answer = admin.post(f"{LIST}{job.pk}/change/", sent | {"job_name": "bell \x07"})
    assert "control character" in told(answer)[-1]
    job.refresh_from_db()
    assert job.job_name == "renamed"


def test_a_job_is_submitted_with_its_recipes_form(admin):
    page = admin.get(LIST + "add/?recipe=tiny").content.decode()
    assert 'name="config.epochs"' in page
    sent = {"job_name": "by the admin", "priority": "0", "config.epochs": "4", "config.deterministic": "on"}
    refused = admin.post(LIST + "add/?recipe=tiny", sent | {"config.epochs": "0", "config.optimizer": "adam"})
    assert (refused.status_code, TrainingJob.objects.count()) == (400, 0)
    choices = {"config.optimizer": "adam", "config.lr_scheduler": "cosine", "config.precision": "fp32"}
    answer = admin.post(LIST + "add/?recipe=tiny", sent | choices | {"config.device": "cpu"})
    assert answer.status_code == 302
    job = TrainingJob.objects.get()
    assert (job.job_name, job.config["epochs"], job.config["optimizer"]) == ("by the admin", 4, "adam")
    assert admin.get(LIST + "add/?recipe=nonsense").status_code == 404
