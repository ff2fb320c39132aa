import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.pages.conftest import html
from training.models import TrainingJob

pytestmark = pytest.mark.django_db


def shown(answer) -> list[str]:
    return [job["job_name"] for job in answer.context["jobs"]]


@pytest.fixture
def some_jobs(make_job, alice, bob):
    make_job(job_name="apple", status="completed", best_val_loss=0.5)
    make_job(job_name="banana", status="failed", best_val_loss=0.25)
    make_job(job_name="cherry", owner=bob)
    make_job(job_name="date", job_type="synthetic_data")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["date", "cherry", "banana", "apple"]),
        ("?sort=oldest", ["apple", "banana", "cherry", "date"]),
        ("?sort=name", ["apple", "banana", "cherry", "date"]),
        ("?sort=best", ["banana", "apple", "date", "cherry"]),
        ("?status=failed", ["banana"]),
        ("?q=AN", ["banana"]),
        ("?recipe=shards", ["date"]),
        ("?owner=me", ["date", "banana", "apple"]),
        ("?q=an&status=queued", []),
        ("?status=nonsense&sort=nonsense&page=nonsense&owner=x", ["date", "cherry", "banana", "apple"]),
        ("?q=%00", ["date", "cherry", "banana", "apple"]),
        ("?page=99", []),
    ],
)
def test_the_address_says_what_is_shown(browse, alice, some_jobs, query, names):
    assert shown(browse(alice).get("/" + query)) == names


def test_a_number_finds_the_job(browse, alice, some_jobs):
    job = TrainingJob.objects.get(job_name="cherry")
    assert "cherry" in shown(browse(alice).get(f"/?q=%23{job.pk}"))


def test_fifty_jobs_a_page_in_a_fixed_number_of_queries(browse, alice, make_job):
    for number in range(51):
        make_job(job_name=f"job {number}")
    client = browse(alice)
    client.get("/")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        first = client.get("/")
    assert len(shown(first)) == 50
    assert len(queries) <= 12  # four of them say why queued jobs wait
    assert shown(client.get(first.context["next_url"])) == ["job 0"]


def test_an_empty_list_says_what_to_do(browse, alice):
    assert "No jobs yet" in html(browse(alice).get("/"))
    assert "job submit" in html(browse(alice).get("/"))
