"""Every verb in every state through every door: the answer is the lifecycle table's, everywhere the same."""

import pytest

from tests.conftest import ALL_STATES
from tests.support.doors import DOORS
from training import lifecycle
from training.lifecycle import USER_VERBS, JobType, Status, Stop
from training.models import TrainingJob

STATES = [(JobType.TRAINING, *state) for state in ALL_STATES]
STATES += [
    (JobType.SYNTHETIC_DATA, *state) for state in ALL_STATES if state[0] != "paused" and state[1] != "pause"
]
STATES += [(JobType.EXTERNAL, status, "") for status in ("running", "completed", "failed", "cancelled")]


def by_the_table(verb, job) -> str:
    status, stop = Status(job.status), Stop(job.stop)
    if lifecycle.refusal(verb, status, stop, job.facts):
        return "refused"
    if job.job_type == JobType.EXTERNAL and verb == "cancel" and status is Status.RUNNING:
        return "done"  # no worker is to be waited for
    return str(lifecycle.RULES[verb, status, stop].answer)


@pytest.mark.parametrize(("job_type", "status", "stop"), STATES)
def test_a_verb_is_answered_the_same_through_every_door(job_type, status, stop, make_job, alice):
    for verb in USER_VERBS:
        jobs = {door: make_job(job_type=str(job_type), status=status, stop=stop) for door in DOORS}
        expected = by_the_table(verb, jobs[DOORS[0]])
        assert {door.name: door.ask(str(verb), job, alice) for door, job in jobs.items()} == {
            door.name: expected for door in DOORS
        }
        ends = TrainingJob.objects.filter(pk__in=[job.pk for job in jobs.values()])
        assert (
            len(set(ends.values_list("status", "stop", "stop_at"))) <= 1
        )  # and it left the job in one state
