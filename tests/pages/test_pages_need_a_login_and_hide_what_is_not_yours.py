import pytest
from django.urls import reverse

from tests.pages.conftest import html
from training.models import TrainingJob

pytestmark = pytest.mark.django_db


def addresses(job: TrainingJob) -> list[str]:
    names = ("job", "job-edit", "job-log")
    return [reverse(name, args=[job.pk]) for name in names] + [f"/jobs/{job.pk}/pause/"]


def test_every_page_sends_a_stranger_to_the_login(client, make_job):
    for address in [reverse("jobs"), reverse("job-new"), *addresses(make_job())]:
        answer = client.get(address)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/login/?next=")


def test_what_mallory_cannot_see_does_not_exist_for_her(browse, make_job, mallory):
    job, client = make_job(job_name="secret plans"), browse(mallory)
    for address in addresses(job):
        assert client.get(address).status_code == 404
    for verb in ("pause", "resume", "delete"):
        assert client.post(f"/jobs/{job.pk}/{verb}/").status_code == 404
    assert client.get(f"/jobs/new/?from={job.pk}").status_code == 404
    assert "secret plans" not in html(client.get("/"))


def test_bob_may_look_and_not_edit(browse, make_job, bob):
    job, client = make_job(), browse(bob)
    assert client.get(f"/jobs/{job.pk}/").status_code == 200
    answer = client.get(f"/jobs/{job.pk}/edit/")
    assert (answer.status_code, answer["X-Heimdall-Answer"]) == (403, "not_allowed")


@pytest.mark.parametrize(
    "path", ["/jobs/0/", "/jobs/99999999999999999999999/", "/jobs/12/nonsense/", "/jobs/x/"]
)
def test_addresses_that_make_no_sense_are_404(browse, alice, path):
    assert browse(alice).get(path).status_code == 404


def test_the_login_page_takes_a_password_and_goes_where_one_wanted_to(client, alice, make_job):
    job = make_job()
    wrong = client.post("/login/", {"username": "alice", "password": "no"})
    assert "password is wrong" in html(wrong)
    answer = client.post(
        f"/login/?next=/jobs/{job.pk}/",
        {"username": "alice", "password": "long enough for a test", "next": f"/jobs/{job.pk}/"},
    )
    assert answer["Location"] == f"/jobs/{job.pk}/"


def test_no_page_holds_a_script_of_its_own(browse, make_job, alice):
    client, job = browse(alice), make_job(status="running")
    for address in ["/", "/jobs/new/", *addresses(job)[:2], f"/jobs/{job.pk}/pause/", "/login/"]:
        answer = client.get(address, follow=True)
        assert "script-src 'self';" in answer["Content-Security-Policy"]
        scripts = html(answer).split("<script")[1:]
        assert scripts
        for script in scripts:
            assert 'src="/static/' in script.split(">")[0]
        assert " onclick=" not in html(answer)
