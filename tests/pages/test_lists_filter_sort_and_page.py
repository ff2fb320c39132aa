from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from heimdall.errors import InvalidInput
from tests.pages.conftest import html, words
from training import services
from training.models import TrainingJob
from training.queries.filters import Filters

pytestmark = pytest.mark.django_db


def shown(answer) -> list[str]:
    return [job["job_name"] for job in answer.context["jobs"]]


@pytest.fixture
def some_jobs(make_job, alice, bob):
    today = timezone.now()
    make_job(job_name="apple", status="completed", best_val_loss=0.5, created_at=today - timedelta(days=40))
    make_job(job_name="banana", status="failed", best_val_loss=0.25, created_at=today - timedelta(days=3))
    make_job(job_name="cherry", owner=bob, priority=5, pool="big")
    date = make_job(job_name="date", job_type="synthetic_data", team=None)
    services.edit(date, by=alice, tags=["night", "final"])


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["date", "cherry", "banana", "apple"]),
        ("?ordering=id", ["apple", "banana", "cherry", "date"]),
        ("?ordering=job_name", ["apple", "banana", "cherry", "date"]),
        ("?ordering=best_val_loss", ["banana", "apple", "cherry", "date"]),
        ("?ordering=-priority", ["cherry", "date", "banana", "apple"]),
        ("?status=failed", ["banana"]),
        ("?status=failed,completed", ["banana", "apple"]),
        ("?search=AN", ["banana"]),
        ("?recipe=shards", ["date"]),
        ("?owner=me", ["date", "banana", "apple"]),
        ("?owner=bob", ["cherry"]),
        ("?owner=nobody", []),
        ("?team=radio", ["cherry", "banana", "apple"]),
        ("?tags=night", ["date"]),
        ("?tags=nothing", []),
        ("?tags=final, night", ["date"]),
        ("?tags=night,other", []),
        ("?pool=big", ["cherry"]),
        ("?job_type=synthetic_data", ["date"]),
        ("?job_type=tea&parent=x", ["date", "cherry", "banana", "apple"]),
        ("?parent=9223372036854775807", ["date", "cherry", "banana", "apple"]),
        ("?since=7d", ["date", "cherry", "banana"]),
        ("?since=30d&owner=me&status=failed", ["banana"]),
        (f"?created_after={(timezone.now() - timedelta(days=5)).date()}", ["date", "cherry", "banana"]),
        (f"?created_before={(timezone.now() - timedelta(days=5)).date()}", ["apple"]),
        ("?search=an&status=queued", []),
        ("?status=nonsense&ordering=nonsense&cursor=nonsense&since=x", ["date", "cherry", "banana", "apple"]),
        ("?created_after=2026-02-31&created_before=9999-12-31", ["date", "cherry", "banana", "apple"]),
        ("?search=%00", ["date", "cherry", "banana", "apple"]),
    ],
)
def test_the_address_says_what_is_shown(browse, alice, some_jobs, query, names):
    assert shown(browse(alice).get("/" + query)) == names


def test_what_was_made_from_a_job_is_found_and_its_page_leads_there(browse, alice, mallory, make_job):
    parent = make_job(job_name="parent", status="completed")
    make_job(job_name="child", parent=parent)
    make_job(job_name="hidden child", parent=parent, owner=mallory, team=None)
    assert "Derived from it 1 job" in words(html(browse(alice).get(f"/jobs/{parent.pk}/")))
    assert shown(browse(alice).get(f"/?parent={parent.pk}")) == ["child"]


def test_a_failed_job_says_why_in_its_row(browse, alice, make_job):
    make_job(status="failed", error_code="error", error_message="ValueError: too short\nTraceback ...")
    seen = words(html(browse(alice).get("/")))
    assert "failed ValueError: too short" in seen
    assert "Traceback" not in seen


def test_a_job_that_had_enough_says_so(browse, alice, make_job):
    make_job(status="completed", epoch=2)
    assert "completed stopped early epoch 2 of 3 100.0 %" in words(html(browse(alice).get("/")))


def test_a_number_finds_the_job(browse, alice, some_jobs):
    job = TrainingJob.objects.get(job_name="cherry")
    assert "cherry" in shown(browse(alice).get(f"/?search=%23{job.pk}"))


def test_each_filter_that_is_set_can_be_taken_off_by_itself(browse, alice, some_jobs):
    client = browse(alice)
    chips = client.get("/?owner=me&tags=night&ordering=-updated_at").context["chips"]
    assert [chip["words"] for chip in chips] == ["mine", "night", "Recently updated"]
    without = client.get(chips[1]["url"])
    assert without.wsgi_request.get_full_path() == "/?owner=me&ordering=-updated_at"
    assert set(shown(without)) == {"date", "banana", "apple"}


def test_a_header_sorts_and_turns_the_order_around(browse, alice, some_jobs):
    client = browse(alice)
    by_name = client.get(client.get("/?owner=me").context["columns"]["job_name"]["url"])
    assert shown(by_name) == ["apple", "banana", "date"]
    assert 'aria-sort="ascending"' in html(by_name)
    turned = client.get(by_name.context["columns"]["job_name"]["url"])
    assert shown(turned) == ["date", "banana", "apple"]
    assert 'aria-sort="descending"' in html(turned)


def test_tabs_count_what_else_is_filtered(browse, alice, some_jobs):
    tabs = browse(alice).get("/?owner=me").context["tabs"]
    counts = {tab["label"]: tab["count"].jobs for tab in tabs}
    assert counts == {
        "All": 3, "Queued": 1, "Running": 0, "Paused": 0, "Completed": 1, "Failed": 1, "Cancelled": 0,
    }  # fmt: skip


def test_fifty_jobs_a_page_in_a_fixed_number_of_queries(browse, alice, make_job):
    for number in range(51):
        make_job(job_name=f"job {number}", step=3)
    client = browse(alice)
    client.get("/")
    with CaptureQueriesContext(connection) as queries:
        first = client.get("/")
    assert len(shown(first)) == 50
    assert len(queries) <= 20  # among them four that say why queued jobs wait
    second = client.get(first.context["next_url"])
    assert shown(second) == ["job 0"]
    assert shown(client.get(second.context["previous_url"])) == shown(first)


def test_an_empty_list_says_what_to_do(browse, alice, make_job):
    assert "No jobs yet" in html(browse(alice).get("/"))
    assert "job submit" in html(browse(alice).get("/"))
    make_job()
    assert "No job matches" in words(html(browse(alice).get("/?status=failed")))


def test_an_address_is_read_as_it_was_written():
    query = "status=failed,paused&owner=me&search=a+b%26c&ordering=-updated_at"
    assert Filters.read(query).query() == query
    assert Filters.read("?ordering=-id&status=&search=").query() == ""
    with pytest.raises(
        InvalidInput, match=r"no filter color\..*filter status does not take.*Known are: status, "
    ):
        Filters.read("color=red&status=broken", strictly=True)
