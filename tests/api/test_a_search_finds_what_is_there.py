"""A text is found by an index that follows every change of a name or description; without one, in the newest jobs."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from training import services
from training.queries import full_text, job_list
from training.queries.job_list import JobQuery

pytestmark = pytest.mark.django_db


def found(actor, text):
    return [job["id"] for job in job_list.page(actor, JobQuery(search=text), size=100).jobs]


@pytest.fixture
def index(db):
    """What the index consists of, as SQL that drops it."""
    if connection.vendor == "sqlite":
        return [f"DROP TRIGGER training_jobtext_{name}" for name in ("insert", "update", "delete")]
    if not full_text._is_prepared(connection):
        pytest.skip("this PostgreSQL has no pg_trgm; `PROGRAMS=` of `make test` names one that has")
    return [f"DROP INDEX training_jobtext_{name}" for name in ("job_name", "description")]


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


def test_what_was_lost_is_made_again_after_a_migration(make_job, alice, index):
    with connection.cursor() as cursor:
        for statement in index:
            cursor.execute(statement)
    assert not full_text._is_prepared(connection)
    job = make_job(job_name="beam")
    connection.check_constraints()  # as a commit does: PostgreSQL indexes no table before
    full_text.prepare()
    assert found(alice, "beam") == [job.pk]
    assert full_text._is_prepared(connection)


def test_without_an_index_the_newest_jobs_are_looked_through(make_job, alice, monkeypatch):
    jobs = [make_job(job_name="beam").pk for _ in range(4)]
    monkeypatch.setattr(full_text, "NEWEST", 3)
    monkeypatch.setattr(full_text, "_is_prepared", lambda connection: False)
    assert found(alice, "beam") == jobs[:0:-1]
    assert found(alice, "be") == jobs[:0:-1]


def test_a_search_reads_no_more_than_it_must(make_job, admin_user, index):
    """The statement that finds the jobs is led by the index, not by a walk over all of them."""
    make_job(job_name="beam")
    if connection.vendor == "postgresql":
        look = full_text.condition("beam").look
        with connection.cursor() as cursor:  # what it could do; a single job is read sooner than any index
            cursor.execute("SET LOCAL enable_seqscan TO off; SET LOCAL enable_indexscan TO off")
        plan = explained(f"EXPLAIN SELECT id FROM training_trainingjob WHERE {look.text}", look.values)
        assert "Bitmap Index Scan on training_jobtext_job_name" in plan
        assert "Bitmap Index Scan on training_jobtext_description" in plan
        return
    with CaptureQueriesContext(connection) as seen:
        job_list.page(admin_user, JobQuery(search="beam"), size=10)
    (statement,) = (
        query["sql"]
        for query in seen
        if query["sql"].startswith("SELECT id FROM (SELECT training_jobtext.rowid")
    )
    plan = explained(f"EXPLAIN QUERY PLAN {statement}")
    assert "VIRTUAL TABLE INDEX" in plan
    assert "SCAN training_trainingjob" not in plan
    assert "TEMP B-TREE" not in plan


def explained(question, values=None):
    with connection.cursor() as cursor:
        cursor.execute(question, values)
        return " / ".join(row[-1] for row in cursor.fetchall())
