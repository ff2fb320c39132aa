"""What the bench measures lists on is made in one statement, whatever columns jobs have got since."""

import pytest
from django.db import connection

from bench.jobs import make
from training.models import TrainingJob

pytestmark = pytest.mark.django_db


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the bench fills SQLite")
def test_a_thousand_jobs_are_made_and_their_people_see_them():
    make(1000)
    assert TrainingJob.objects.count() == 1000
    assert TrainingJob.objects.filter(owner__username="carol").count() == 20
    assert TrainingJob.objects.filter(job_name__contains="azimuth").count() == 1
    assert TrainingJob.objects.first().program == {}
