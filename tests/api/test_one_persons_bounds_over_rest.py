"""What is beyond one person's bounds is refused with the field, the sentence and a code."""

import pytest

from training.models import TrainingJob

pytestmark = pytest.mark.django_db


def submit(api, **fields):
    body = {"job_name": "mine", "recipe": "tiny", "config": {}} | fields
    return api.post("/v1/training/jobs", body, format="json")


@pytest.mark.parametrize(
    ("asked", "field", "code"),
    [
        ({"priority": 11}, "priority", "invalid"),
        ({"config": {"checkpoint_every_minutes": 0.0001}}, "checkpoint_every_minutes", "invalid_config"),
    ],
)
def test_a_job_beyond_a_bound_is_refused(api, asked, field, code):
    answer = submit(api, **asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert field in answer.json()["error"]["fields"]
    assert not TrainingJob.objects.exists()


def test_one_job_too_many_is_refused_and_says_what_to_do(api, settings):
    settings.MAX_UNFINISHED_JOBS = 1
    assert submit(api).status_code == 201
    answer = submit(api)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "limit_reached")
    assert "Wait for some to end, or cancel some." in answer.json()["error"]["message"]
    assert TrainingJob.objects.count() == 1
