"""A text is found by an index that follows every change of a name or description; without one, in the newest jobs."""

import pytest
from django.db import connection

from training import services
from training.models import TrainingJob
from training.queries import listing, texts
from training.queries.listing import Wanted

pytestmark = pytest.mark.django_db


def found(actor, text):
    return [job["id"] for job in listing.page(actor, Wanted(search=text), size=100).jobs]


only_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's own way to keep the index")


def test_the_index_follows_new_names_and_what_is_deleted(make_job, alice):
    job = make_job(job_name="a Beam of light", description="narrow", status="completed")
    other = make_job(job_name="nothing")
    assert found(alice, "beam of") == found(alice, "NARROW") == [job.pk]
    services.edit(other, by=alice, job_name="beams", description="wide 100%")
    assert found(alice, "beam") == [other.pk, job.pk]
    assert found(alice, "100%") == [other.pk]
    services.edit(other, by=alice, job_name="else")
    services.delete(job, by=alice)
    assert found(alice, "beam") == []


@pytest.mark.parametrize(
    "text", ['"', '""""', "be'am", "beam OR light", "job_name : a", "a*", "NEAR(a b)", "%%%", "___"]
)
def test_a_text_is_a_text_and_no_language_of_the_index(make_job, alice, text):
    job = make_job(job_name=f"x {text} y")
    make_job(job_name="beam light a b")
    assert found(alice, text) == [job.pk]


@only_sqlite
def test_what_was_lost_is_made_again_after_a_migration(make_job, alice):
    with connection.cursor() as cursor:
        for name in ("insert", "update", "delete"):
            cursor.execute(f"DROP TRIGGER training_jobtext_{name}")
    job = make_job(job_name="beam")
    texts.prepare()
    assert found(alice, "beam") == [job.pk]
    assert texts.by_index("beam", connection, most=1) is not None


def test_without_an_index_the_newest_jobs_are_looked_through(make_job, alice, monkeypatch):
    jobs = [make_job(job_name="beam").pk for _ in range(4)]
    monkeypatch.setattr(texts, "NEWEST", 3)
    monkeypatch.setattr(texts, "_is_prepared", lambda connection: False)
    assert found(alice, "beam") == jobs[:0:-1]
    assert found(alice, "be") == jobs[:0:-1]


@only_sqlite
def test_a_search_reads_no_more_than_it_must(make_job, alice):
    """The statement that finds the jobs is led by the index, not by a walk over all of them."""
    make_job(job_name="beam")
    found = texts.by_index("beam", connection, most=11)
    plan = TrainingJob.objects.filter(found).order_by("-id").explain()
    assert "VIRTUAL TABLE INDEX" in plan
    assert "SCAN training_trainingjob" not in plan
