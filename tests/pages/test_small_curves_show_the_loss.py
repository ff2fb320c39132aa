import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.pages.conftest import html
from training.models import Metric, TrainingJob
from training.queries import job_dict
from training.queries.sparks import NUM_POINTS, sparks

pytestmark = pytest.mark.django_db


@pytest.fixture
def trained(make_job):
    def make(losses, **fields) -> TrainingJob:
        job = make_job(step=len(losses), **fields)
        Metric.objects.bulk_create(
            Metric(job=job, step=step, epoch=1, attempt=1, values={"loss": loss})
            for step, loss in enumerate(losses, start=1)
        )
        return job

    return make


def test_a_curve_is_few_points_from_the_first_step_to_the_last(trained):
    few, many = trained([3.0, 2.0, 1.0]), trained([1 / step for step in range(1, 1001)])
    found = sparks([job_dict(few), job_dict(many)])
    assert found[few.pk] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    steps = [step for step, _ in found[many.pk]]
    assert (steps[0], steps[-1], len(steps)) == (1, 1000, NUM_POINTS + 1)
    assert all(loss == 1 / step for step, loss in found[many.pk])


def test_all_curves_of_a_page_are_one_query_and_none_when_nothing_moved(trained):
    jobs = [job_dict(trained([2.0, 1.0 + number])) for number in range(20)]
    with CaptureQueriesContext(connection) as first:
        assert len(sparks(jobs)) == 20
    with CaptureQueriesContext(connection) as second:
        sparks(jobs)
    assert (len(first), len(second)) == (1, 0)


def test_a_loss_that_is_no_number_and_a_job_without_steps_draw_nothing(trained, make_job):
    odd = trained([1.0, None, 0.5])
    found = sparks(
        [job_dict(odd), job_dict(make_job()), job_dict(make_job(job_type="synthetic_data", step=3))]
    )
    assert found == {odd.pk: [(1, 1.0), (3, 0.5)]}


def test_the_list_draws_them_with_words_for_who_does_not_see(browse, alice, trained):
    trained([4.0, 2.0, 1.0])
    text = html(browse(alice).get("/"))
    assert 'role="img" aria-label="Loss from 4.000 to 1.000 in 3 steps"' in text
    path = re.search(r'<path d="M([^"]+)"/></svg>', text)[1].split("L")
    assert path == ["0.0 3.0", "50.0 16.3", "100.0 23.0"]


def test_the_page_asks_for_them_again_and_gets_those_of_its_own_jobs(browse, alice, mallory, trained):
    ours, theirs = trained([2.0, 1.0]), trained([2.0, 1.0], owner=mallory, team=None)
    found = browse(alice).get(f"/jobs/curves/?ids={ours.pk},{theirs.pk},x,0,99999999999999999999").json()
    assert found == {
        str(ours.pk): {"path": "M0.0 3.0L100.0 23.0", "words": "Loss from 2.000 to 1.000 in 2 steps"}
    }
    assert browse(alice).get("/jobs/curves/").json() == {}
