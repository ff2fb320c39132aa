"""The admin's first page has the pages' numbers, of the jobs that the user can see."""

import pytest
from django.test import Client

from training.models import TrainingJob

pytestmark = pytest.mark.django_db


@pytest.fixture
def jobs(make_job, node, admin_user):
    made = [
        make_job(job_name="north", status="running", stop="pause", step=3, total_steps=6),
        make_job(job_name="east"),
        make_job(job_name="south", status="failed"),
        make_job(job_name="west", status="completed"),
        make_job(job_name="hers", status="failed", owner=admin_user, team=None),
    ]
    TrainingJob.objects.filter(job_name="south").update(error_message="ValueError: <b>no</b>")
    return made


def page(user) -> str:
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    return client.get("/admin/").content.decode()


def test_it_shows_counts_progress_queue_nodes_and_failures(jobs, admin_user, node):
    seen = page(admin_user)
    assert '<b>2</b> <span class="heimdall-state failed">failed</span>' in seen
    assert '<span class="heimdall-state pausing">pausing</span>' in seen
    assert "50.0 %" in seen
    assert node.name in seen
    assert "0 of 1" in seen
    for name in ("north", "east", "south", "hers"):
        assert f">{name}</a>" in seen
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;" in seen


def test_it_shows_nothing_of_jobs_that_the_user_cannot_see(jobs, alice, mallory):
    assert ">hers</a>" not in page(alice)
    assert '<b>1</b> <span class="heimdall-state failed">failed</span>' in page(alice)
    assert ">north</a>" not in page(mallory)


def test_its_cost_does_not_grow_with_the_jobs(jobs, make_job, admin_user, django_assert_max_num_queries):
    for _ in range(30):
        make_job(status="running")
        make_job()
    with django_assert_max_num_queries(40):
        page(admin_user)
