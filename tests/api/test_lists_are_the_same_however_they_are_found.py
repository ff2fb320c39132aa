"""By an index of a filter or along an order: however a list is found, it shows the same jobs in the same order."""

import datetime
import itertools

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from training.models import MetricValue, Tag, TrainingJob
from training.models.values import indexed
from training.queries import FIELDS, job_list
from training.queries.keyset import ORDERINGS
from training.services.column_values import index_config, note_values

URL = "/v1/training/jobs"
FILTERS = (
    "",
    "status=completed",
    "status=completed,failed",
    "recipe=tiny&status=failed",
    "owner=bob",
    "team=radio",
    "tags=red",
    "tags=red,blue&status=completed",
    "search=beam",
    "search=beam&status=completed",
    "owner=alice&job_type=training",
    "created_after=2026-01-01&status=completed",
    "created_before=2026-01-01",
    "search=beam&tags=red",
    "search=be&recipe=tiny",
    "search=7",
    "config.samples=30",
    "config.samples__gt=10&config.samples__lte=20&status=completed",
    "where=config.step_seconds>0&where=config.samples<30",
    "config.kind=b",
    "config.kind=7&tags=red",
    "metric.val_rmse__lt=2.5",
    "lowest.val_rmse__lt=1.5&metric.val_rmse__gte=2&search=beam",
    "highest.val_rmse=9",
    "metric.nowhere__gt=0",
)
BY_COLUMNS = ("metric.val_rmse", "lowest.val_rmse", "config.samples", "config.kind", "config.nowhere")


@pytest.fixture
def jobs(make_job, bob, mallory, team):
    """Equal values, missing values and jobs of everybody."""
    start = timezone.now()
    kinds = ("a", "b", 7, True, 7.5, None, 2**60 + 1)
    statuses = itertools.cycle(["completed", "failed", "completed", "queued", "cancelled"])
    people = [{}, {"team": None}, {"owner": bob}, {"owner": bob, "team": None}, {"owner": mallory}]
    for number, (whose, status) in enumerate(zip(people * 4, statuses, strict=False)):
        job = make_job(job_name="beam" if number % 3 else f"other {number % 4}", status=status, **whose)
        names = [name for name, every in (("red", 2), ("blue", 3)) if number % every == 0]
        Tag.objects.bulk_create([Tag(job=job, name=name) for name in names])
        job.config |= {"samples": 10 * (number % 4), "step_seconds": number % 3, "kind": kinds[number % 7]}
        job.config_values.all().delete()
        index_config(job)
        for value in (4 - number % 4, number % 3, number % 5 or None) if number % 6 else ():
            note_values(job, [{"val_rmse": value, "val_loss": 9}, {"val_rmse": value}])
        if number == 5:
            note_values(job, [{"val_rmse": 9}])
        TrainingJob.objects.filter(pk=job.pk).update(
            config=job.config,
            priority=number % 3,
            best_val_loss=None if number % 4 == 0 else number % 5,
            started_at=None if number % 2 else start + datetime.timedelta(seconds=number % 6),
            updated_at=start + datetime.timedelta(seconds=(number * 7) % 10),
        )


@pytest.fixture(params=["alice", "bob", "admin_user"])
def client(request, client_of, jobs):
    return client_of(request.getfixturevalue(request.param))


FEW = (1, 4, job_list.COUNT_LIMIT)  # with 1 and 4 these lists are found as those of a million jobs are
MAX_SCANNED = {1: 1, 4: 9, job_list.COUNT_LIMIT: job_list.MAX_SCANNED}


def only_few_are_looked_at(monkeypatch, few):
    monkeypatch.setattr(job_list, "COUNT_LIMIT", few)
    monkeypatch.setattr(job_list, "MAX_SCANNED", MAX_SCANNED[few])
    monkeypatch.setattr(job_list, "MAX_WALKED", 3 * few)


def key(job, ordering):
    field, sign = ordering.removeprefix("-"), -1 if ordering.startswith("-") else 1
    number = -job["id"] if field in {"status", "recipe"} else job["id"]
    value = job[field]
    if value is not None and field.endswith("_at"):  # a whole second is written without a fraction
        value = datetime.datetime.fromisoformat(value)
    return (value is None, _Turned(value, sign), sign * number)


class _Turned:
    def __init__(self, value, sign):
        self.value, self.sign = value, sign

    def __eq__(self, other):
        return self.value == other.value

    def __lt__(self, other):
        return self.value is not None and (
            self.value < other.value if self.sign > 0 else self.value > other.value
        )


def columns_of(jobs):
    """By job, as a list sorts by it: numbers before texts before nothing."""
    summed = {"metric": "newest", "lowest": "lowest"}
    found = {}
    for job, column in itertools.product(jobs, BY_COLUMNS):
        prefix, _, name = column.partition(".")
        if prefix == "config":
            number, text = indexed(job["config"].get(name))
            found[job["id"], column] = text if number is None else number
        else:
            row = MetricValue.objects.filter(job=job["id"], name=name).first()
            found[job["id"], column] = getattr(row, summed[prefix]) if row else None
    return found


def walked(client, url, way):
    """The pages from this one on, and the last page's address back."""
    pages = []
    while url:
        page = client.get(url).json()
        pages.append(page)
        url = page[way]
    return pages


def test_every_order_can_be_walked_there_and_back(client, monkeypatch):
    for ordering, few in itertools.product(ORDERINGS, FEW[1:]):
        only_few_are_looked_at(monkeypatch, few)
        there = walked(client, f"{URL}?page_size=6&ordering={ordering}", "next")
        shown = [job for page in there for job in page["results"]]
        assert len(shown) > 6
        assert shown == sorted(shown, key=lambda job, by=ordering: key(job, by))
        back = walked(client, there[-1]["previous"], "previous")
        assert [job for page in back[::-1] for job in page["results"]] == shown[: -len(there[-1]["results"])]


def test_every_column_can_be_walked_there_and_back(client, monkeypatch):
    everything = client.get(f"{URL}?page_size=200").json()["results"]
    values = columns_of(everything)
    assert any(isinstance(value, str) for value in values.values())
    orderings = [sign + column for column in BY_COLUMNS for sign in ("", "-")]
    for ordering, few, filters in itertools.product(orderings, FEW[1:], ("", "&status=completed")):
        only_few_are_looked_at(monkeypatch, few)
        there = walked(client, f"{URL}?page_size=4&ordering={ordering}{filters}", "next")
        shown = [job for page in there for job in page["results"]]
        column, sign = ordering.removeprefix("-"), -1 if ordering.startswith("-") else 1

        def place(job, column=column, sign=sign):
            value = values[job["id"], column]
            return (value is None, isinstance(value, str), _Turned(value, sign), sign * job["id"])

        wanted = [job for job in everything if not filters or job["status"] == "completed"]
        assert [job["id"] for job in shown] == [job["id"] for job in sorted(wanted, key=place)], ordering
        back = walked(client, there[-1]["previous"], "previous")
        assert [job for page in back[::-1] for job in page["results"]] == shown[: -len(there[-1]["results"])]


def test_a_filter_by_a_column_finds_what_its_words_say(api, jobs):
    def values(column, query):
        return [job[column] for job in api.get(f"{URL}?fields={column}&{query}").json()["results"]]

    assert set(values("config.samples", "config.samples__gt=10&config.samples__lte=30")) == {20, 30}
    assert set(values("config.kind", "config.kind=7")) == {7}
    assert set(values("config.kind", "config.kind=true")) == {True}
    assert set(values("config.kind", f"config.kind={2**60 + 1}")) == {2**60 + 1}
    assert values("config.kind", f"config.kind={2**60}") == []
    newest = values("metric.val_rmse", "metric.val_rmse__lt=2.5")
    assert newest
    assert max(newest) < 2.5
    assert values("lowest.val_rmse", "metric.val_rmse=9")[0] < 9


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("metric.val_rmse__lt=low", "metric.val_rmse__lt", "takes a number, not 'low'"),
        ("where=learning_rate<1", "where", "is no condition. Give a column"),
        ("where=config.seed", "where", "is no condition"),
        ("config.a%00b=1", "config.a\x00b", "There is no column"),
        ("ordering=metric.", "ordering", "is not one of: id, job_name"),
        ("fields=id,lerning_rate", "fields", "There is no field 'lerning_rate'"),
        ("&".join(f"config.a{number}=1" for number in range(21)), "where", "At most 20 conditions"),
    ],
)
def test_what_is_no_column_is_refused_with_a_sentence(api, query, field, words):
    answer = api.get(f"{URL}?{query}")
    assert answer.status_code == 400
    assert words in answer.json()["error"]["fields"][field][0]


def test_fields_leave_everything_else_out(api, jobs):
    answer = api.get(f"{URL}?fields=id,config.samples,lowest.val_rmse&page_size=3")
    assert answer["Content-Type"] == "application/vnd.heimdall.fields+json"
    rows = answer.json()["results"]
    assert [set(row) for row in rows] == [{"id", "config.samples", "lowest.val_rmse"}] * 3
    one = api.get(f"{URL}/{rows[0]['id']}?fields=config.samples,status").json()
    assert one == {"config.samples": rows[0]["config.samples"], "status": one["status"]}
    assert api.get(f"{URL}/{rows[0]['id']}?fields=nothing").status_code == 400
    assert tuple(api.get(f"{URL}/{rows[0]['id']}").json()) == FIELDS


def test_every_filter_finds_the_same_jobs(client, monkeypatch):
    for filters in FILTERS:
        found = []
        for few, ordering in itertools.product(FEW, ("-id", "job_name")):
            only_few_are_looked_at(monkeypatch, few)
            page = client.get(f"{URL}?page_size=200&ordering={ordering}&{filters}").json()
            ids = {job["id"] for job in page["results"]}
            assert len(ids) == len(page["results"])
            assert (
                page["count"] == len(ids) if page.get("count_is_exact", True) else page["count"] <= len(ids)
            )
            found.append(ids)
        assert found[0] or "tags" not in filters
        assert all(ids == found[0] for ids in found)


@pytest.mark.parametrize("few", FEW)
def test_a_count_is_exact_up_to_its_limit_and_says_so_beyond(api, jobs, monkeypatch, few):
    monkeypatch.setattr(job_list, "COUNT_LIMIT", few)
    page = api.get(URL).json()
    shown = len(page["results"])
    assert page["count"] == min(few, shown)
    assert ("count_is_exact" in page) == (shown > few)
    monkeypatch.setattr(job_list, "COUNT_LIMIT", shown)
    assert set(api.get(URL).json()) == {"count", "next", "previous", "results"}


def test_two_filters_that_many_jobs_fit_are_counted_together(api, jobs, monkeypatch):
    """Up to the limit exactly, where one of them fits few enough to look at all of these."""
    exact = api.get(f"{URL}?status=failed,cancelled&tags=red").json()["count"]
    each = [api.get(f"{URL}?{one}").json()["count"] for one in ("status=failed,cancelled", "tags=red")]
    assert exact < min(each)
    for limit, looked_at, is_exact in ((exact, 20, True), (exact - 1, 20, False), (exact, exact, False)):
        monkeypatch.setattr(job_list, "COUNT_LIMIT", limit)
        monkeypatch.setattr(job_list, "MAX_SCANNED", looked_at)
        page = api.get(f"{URL}?status=failed,cancelled&tags=red").json()
        assert (page["count"], page.get("count_is_exact", True)) == (min(limit, exact), is_exact)


@pytest.mark.parametrize("few", FEW)
def test_pages_are_numbered_up_to_the_limit_and_lead_on_from_there(api, jobs, monkeypatch, few):
    monkeypatch.setattr(job_list, "COUNT_LIMIT", few)
    shown = [job["id"] for job in api.get(URL).json()["results"]]
    for number in range(1, -(-min(few, len(shown)) // 2) + 1):
        page = api.get(f"{URL}?page={number}&page_size=2").json()
        assert [job["id"] for job in page["results"]] == shown[2 * number - 2 : 2 * number]
    rest = walked(api, page["next"], "next") if page["next"] else []
    assert [job["id"] for page in rest for job in page["results"]] == shown[2 * number :]
    assert api.get(f"{URL}?page={number + 1}&page_size=2").status_code == 404


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL plans by how many rows there are")
def test_the_newest_jobs_are_read_as_they_stand_in_indexes(client, monkeypatch):
    """Sorted, all that fit would be read for each page."""
    only_few_are_looked_at(monkeypatch, 1)
    for filters in ("", "status=completed,failed", "tags=red&status=completed", "search=beam", "search=123"):
        with CaptureQueriesContext(connection) as seen:
            client.get(f"{URL}?{filters}")
        statements = [query["sql"] for query in seen if query["sql"].startswith("SELECT id FROM (")]
        assert statements or filters == "search=123"
        for statement in statements:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
                assert "TEMP B-TREE" not in " / ".join(row[-1] for row in cursor.fetchall()), filters


@pytest.mark.parametrize(
    "cursor", ["", "x", "e30", "W10", "WyItaWQiLDUsNSwyXQ", "WyJpZCIsNSw1LDBd", "%00", "9" * 1999]
)
def test_a_cursor_that_no_list_gave_leads_nowhere(api, cursor):
    answer = api.get(f"{URL}?cursor={cursor}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "cursor" in answer.json()["error"]["message"]


def test_a_list_shows_a_job_as_its_own_address_does(client):
    shown = client.get(URL).json()["results"]
    assert len(shown) > 10
    for job in shown:
        assert client.get(f"{URL}/{job['id']}").json() == job
