"""Every verb and worker step beside every other, in both orders: exhaustively, on the real database.

People's verbs read a job without a lock, so one may be decided on what was read before another act was written. Its
conditional UPDATE then finds nothing, and it decides again. The end must be the same, in the answers and to the last
column, as if one had come wholly after the other. The suite takes the states that are met most often, and the pairs
with a person in them; PAIRS=1 takes all.
"""

from __future__ import annotations

import copy
import functools
import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from tests.conftest import ALL_STATES, build_job
from tests.services.test_races_have_one_winner import assert_whole, stored
from training import services
from training.errors import NoGoodCheckpoint, NotFound, StaleAttempt, TransitionRefused
from training.lifecycle import JobType
from training.models import Attempt, Checkpoint, Metric, TrainingJob
from training.services import verbs

pytestmark = pytest.mark.django_db
REFUSED = (TransitionRefused, StaleAttempt, NotFound, NoGoodCheckpoint)


class Case:
    """A job in one state, the attempt that runs it or ran it last, and all that may be done to it."""

    def __init__(self, status: str, stop: str, job_type: str, owner, node):
        self.owner, self.node = owner, node
        has_one = job_type == JobType.TRAINING
        self.job = build_job(
            owner=owner, job_type=job_type, status=status, stop=stop, with_checkpoint=has_one, step=4, epoch=1
        )
        if status != "running":
            TrainingJob.objects.filter(pk=self.job.pk).update(attempt=1)
            self.job.refresh_from_db()
        fields = {"number": self.job.attempt, "node": node, "node_name": node.name}
        self.attempt = Attempt.objects.filter(job=self.job).first() or Attempt.objects.create(
            job=self.job, ended_at=self.job.created_at, **fields
        )

    def acts(self) -> dict[str, Callable[[], Any]]:
        job, attempt, by, start = self.job, self.attempt, self.owner, self.job.latest_checkpoint
        file = stored(attempt) if job.job_type == JobType.TRAINING else None
        people = {name: lambda verb=verb: verb(job, by=by) for name, verb in services.VERBS.items()}
        return people | {
            "pause at the next step": lambda: services.pause(job, by=by, at="step"),
            "edit": lambda: services.edit(job, by=by, priority=3),
            "claim": lambda: services.claim(self.node, slot=0, pid=1),
            "beat": lambda: services.beat(
                attempt, services.Report(steps=[{"step": 5, "epoch": 2, "loss": 1.0}])
            ),
            "note": lambda: services.note(attempt, "note", "said"),
            "record": lambda: services.record_checkpoint(attempt, file) if file else None,
            "land": lambda: services.land(attempt, file),
            "land by a drain": lambda: services.land(attempt, draining=True),
            "release": lambda: services.release(attempt, reason="away", delay_seconds=5),
            "complete": lambda: services.complete(attempt, file),
            "fail": lambda: services.fail(attempt, code="recipe_error", message="no"),
            "crash": lambda: services.crash(attempt, exit_code=-9),
            "quarantine": lambda: services.quarantine(attempt, start, "flipped") if start else None,
            "reap": lambda: services.reap(attempt, even_if_leased=True),
            "preempt": lambda: services.preempt(copy.copy(job), for_job=job),
        }


def outcome(act: Callable[[], Any]) -> Any:
    """What was answered, in a form that can be compared."""
    try:
        with transaction.atomic():
            result = act()
    except REFUSED as error:
        return type(error).__name__, str(error)
    if isinstance(result, services.Result):
        return result.answer, result.message, result.resumes_from
    return (
        result if isinstance(result, (str, bool, services.StopRequest, type(None))) else type(result).__name__
    )


def picture(job: TrainingJob) -> Any:
    """All that a reader of the database sees of the job, but for times and numbers that are given out."""
    row = TrainingJob.objects.values().filter(pk=job.pk).first()
    if row is None:
        return None
    assert_whole(job)
    newest = row.pop("latest_checkpoint_id")
    times = {name for name in row if name.endswith("_at") and name != "stop_at"} | {"not_before"}
    shown = {name: value if name not in times else value is not None for name, value in row.items()}
    shown["latest"] = Checkpoint.objects.filter(pk=newest).values_list("step", flat=True).first()
    shown["events"] = list(job.events.order_by("seq").values_list("kind", "message", "status", "stop"))
    shown["metrics"] = list(Metric.objects.filter(job=job).order_by("step").values_list("step", flat=True))
    return shown


def rolled_back(act: Callable[[], Any]) -> Any:
    """What it gives, with nothing left of it in the database."""
    with transaction.atomic():
        try:
            return act()
        finally:
            transaction.set_rollback(True)


@pytest.fixture
def look(monkeypatch):
    """look.old = job: the next verb decides on this, and then on what is."""

    class Look:
        old: TrainingJob | None = None

        def __call__(self, pk: int, *, lock: bool = False) -> TrainingJob:
            old, self.old = self.old, None
            return real(pk, lock=lock) if old is None or lock else old

    real, look = verbs.read_job, Look()
    monkeypatch.setattr(verbs, "read_job", look)
    return look


ALL = os.environ.get("PAIRS", "0") != "0"
SUITE = [("queued", ""), ("running", "pause"), ("paused", "")]
STATES = [(str(JobType.TRAINING), *state) for state in SUITE]
if ALL:
    kinds = (
        JobType.TRAINING,
        JobType.SYNTHETIC_DATA,
    )  # an external job knows no pairs but those with its reports
    STATES = [(str(kind), *state) for kind in kinds for state in ALL_STATES]
    STATES = [each for each in STATES if each[0] == JobType.TRAINING or not {"paused", "pause"} & set(each)]


@pytest.mark.parametrize(("job_type", "status", "stop"), STATES)
def test_each_pair_ends_as_if_one_had_come_after_the_other(job_type, status, stop, alice, node, look):
    case = Case(status, stop, job_type, alice, node)
    acts, old, before = case.acts(), verbs.read_job(case.job.pk), picture(case.job)

    @functools.cache
    def ends(*names: str) -> Any:
        """The answers by their acts, and how the job then stands."""
        return rolled_back(lambda: ({name: outcome(acts[name]) for name in names}, picture(case.job)))

    def ends_by_an_old_look(first: str, second: str) -> Any:
        def act() -> Any:
            earlier, look.old = outcome(acts[first]), copy.copy(old)
            return {first: earlier, second: outcome(acts[second])}, picture(case.job)

        return rolled_back(act)

    alone = {name: ends(name) for name in acts}
    writers = [
        name for name in acts if alone[name][1] != before
    ]  # the others change nothing for those after them
    assert len(writers) >= 2
    for first, second in itertools.product(writers, acts):
        if not (ALL or {first, second} & set(services.VERBS)):
            continue
        in_turn = ends(first, second)  # each keeps the rules: picture() has looked
        if second in services.VERBS and first != second:
            assert ends_by_an_old_look(first, second) in (in_turn, ends(second, first)), (first, second)
