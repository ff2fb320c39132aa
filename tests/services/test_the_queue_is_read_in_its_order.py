"""A claim meets the best job first: the queue's index has the jobs in their order, and nothing is sorted."""

import pytest
from django.db import connection

from training import placement
from training.models import TrainingJob

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL plans by how many rows there are"),
]


@pytest.mark.parametrize(
    "queue",
    [placement.claimable_jobs, lambda: TrainingJob.objects.filter(placement.IN_QUEUE)],
    ids=["claims", "places"],
)
def test_the_queue_is_walked_and_not_sorted(queue):
    plan = queue().order_by(*placement.IN_ORDER)[:1].explain()
    assert "jobs_in_queue" in plan
    assert "TEMP B-TREE" not in plan
