"""A hypothesis state machine on the real services and the real database."""

from __future__ import annotations

import os

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from heimdall.trainer.protocol import EpochDone, StagedShard
from tests.support.stored import stored_checkpoint
from training import lifecycle, services
from training.errors import NoGoodCheckpoint, StaleAttempt, TransitionRefused
from training.lifecycle import Status, Stop, Verb
from training.models import Attempt, Event, Metric, TrainingJob
from training.store.checkpoints import StoredCheckpoint
from training.store.datasets import StoredShard

pytestmark = pytest.mark.usefixtures("each_database")
STEPS_AN_EPOCH, EPOCHS = 2, 3
LAST = STEPS_AN_EPOCH * EPOCHS
EXAMPLES = int(os.environ.get("HEIMDALL_TEST_EXAMPLES", "12"))


class JobLife(RuleBasedStateMachine):
    """One job, one person, any number of workers of which most are stale."""

    @initialize(kind=st.sampled_from(["tiny", "shards"]))
    def submit(self, kind):
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        self.alice = User.objects.create_user("machine")
        self.node = services.register_node()
        self.job = services.submit(by=self.alice, job_name="machine", recipe=kind, config={}).job
        self.is_training = kind == "tiny"
        self.attempts: list[Attempt] = []
        self.completed = False
        self.stored = 0

    def teardown(self):
        if hasattr(self, "rollback"):
            transaction.set_rollback(True)
            self.rollback.__exit__(None, None, None)

    def now(self) -> TrainingJob:
        return TrainingJob.objects.get(pk=self.job.pk)

    # What a person does. Every verb, in every state: the answer is what the table says.

    @rule(
        verb=st.sampled_from(["pause", "resume", "restart", "cancel", "discard"]),
        at=st.sampled_from(["epoch", "step"]),
    )
    def person(self, verb, at):
        before = self.now()
        state = Status(before.status), Stop(before.stop)
        refused = lifecycle.refusal(Verb(verb), *state, before.facts)
        options = {"at": at} if verb == "pause" else {}
        try:
            result = services.VERBS[verb](self.job, by=self.alice, **options)
        except TransitionRefused as error:
            said = str(error)
        else:
            said = None
            expected = lifecycle.RULES[Verb(verb), *state]
            assert result.answer == expected.answer
            assert (result.job.status, result.job.stop) == (expected.to_status, expected.to_stop)
        assert said == refused
        assert refused is None or self.now().event_seq == before.event_seq

    # What workers do, the present one and those that should be dead.

    @rule()
    def claim(self):
        attempt = services.claim(self.node, slot=0, pid=1)
        if attempt:
            self.attempts.append(attempt)

    def worker(self, data) -> Attempt:
        return data.draw(st.sampled_from(self.attempts))

    def fenced(self, attempt: Attempt, act) -> None:
        """The present worker is let through; a stale one changes nothing."""
        before = TrainingJob.objects.values().get(pk=self.job.pk)
        holds = before["status"] == "running" and before["attempt"] == attempt.number
        try:
            with transaction.atomic():
                act()
        except StaleAttempt:
            assert not holds
            assert TrainingJob.objects.values().get(pk=self.job.pk) == before
        else:
            assert holds

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), steps=st.integers(1, 3))
    def train(self, data, steps):
        attempt, job = self.worker(data), self.now()
        first, last = job.current_step + 1, min(job.current_step + steps, LAST)
        if self.is_training:
            rows = [
                {"step": n, "epoch": (n - 1) // STEPS_AN_EPOCH + 1, "loss": 1.0}
                for n in range(first, last + 1)
            ]
            epochs = [
                EpochDone(n, n // STEPS_AN_EPOCH, {"val_loss": 1.0 / n}, best_epoch=1)
                for n in range(first, last + 1)
                if n % STEPS_AN_EPOCH == 0
            ]
            self.fenced(attempt, lambda: services.beat(attempt, services.Report(steps=rows, epochs=epochs)))
        else:
            self.stored += 1
            entry = {"shard": last - 1, "path": "x", "size": 1, "sha256": f"{self.stored:064}", "samples": 10}
            staged = StagedShard("/nowhere", entry, done=last, total=LAST)
            shard = StoredShard(staged, f"machine/{self.stored}")
            self.fenced(attempt, lambda: services.record_shard(attempt, shard))

    def checkpoint(self, attempt: Attempt, kind: str) -> StoredCheckpoint:
        job = self.now()
        self.stored += 1
        name = f"jobs/{job.pk}/a{attempt.number}/s{job.current_step}-{self.stored:032}.safetensors"
        digest = f"{self.stored:064}"
        place = {"step": job.current_step, "epoch": job.current_epoch}
        return stored_checkpoint(name, **place, kinds=(kind,), digest=digest)

    @precondition(lambda self: self.attempts and self.is_training)
    @rule(data=st.data())
    def record(self, data):
        attempt = self.worker(data)
        self.fenced(
            attempt, lambda: services.record_checkpoint(attempt, self.checkpoint(attempt, "periodic"))
        )

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), draining=st.booleans(), with_checkpoint=st.booleans())
    def land(self, data, draining, with_checkpoint):
        attempt = self.worker(data)
        stored = self.checkpoint(attempt, "pause") if with_checkpoint and self.is_training else None
        self.fenced(attempt, lambda: services.land(attempt, stored, draining=draining))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), how=st.sampled_from(["complete", "fail", "crash"]))
    def end(self, data, how):
        attempt = self.worker(data)
        acts = {
            "complete": lambda: services.complete(attempt, None),
            "fail": lambda: services.fail(attempt, code="recipe_error", message="no"),
            "crash": lambda: services.crash(attempt, exit_code=-9),
        }
        self.fenced(attempt, acts[how])

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def reap(self, data):
        services.reap(self.worker(data), even_if_leased=True)

    @precondition(lambda self: self.attempts and self.is_training)
    @rule(data=st.data())
    def find_a_bad_checkpoint(self, data):
        attempt, job = self.worker(data), self.now()
        if job.status == "running" and job.attempt == attempt.number and job.latest_checkpoint:
            try:
                start = services.quarantine(attempt, job.latest_checkpoint, "flipped")
                assert start.quarantined_at is None
            except NoGoodCheckpoint:
                services.fail(attempt, code="no_good_checkpoint", message="all bad")

    # What always holds.

    @invariant()
    def the_rows_are_whole(self):
        if not hasattr(self, "job"):
            return
        job = self.now()
        job.validate_constraints()
        numbers = list(Event.objects.filter(job=job).order_by("seq").values_list("seq", flat=True))
        assert numbers == list(range(1, job.event_seq + 1))
        assert Attempt.objects.filter(job=job, ended_at=None).count() == int(job.status == "running")
        assert (job.checkpoint.name or "") == (
            job.latest_checkpoint.file.name if job.latest_checkpoint else ""
        )
        if job.latest_checkpoint:
            assert job.latest_checkpoint.quarantined_at is None
            assert job.latest_checkpoint.generation == job.generation
        if job.status in {"queued", "paused"} and self.is_training:
            assert job.current_step == (job.latest_checkpoint.step if job.latest_checkpoint else 0)
            assert not Metric.objects.filter(job=job, step__gt=job.current_step).exists()

    @invariant()
    def a_finished_job_stays_finished(self):
        if hasattr(self, "job"):
            assert not self.completed or self.now().status == "completed"
            self.completed = self.now().status == "completed"

    @invariant()
    def one_event_an_epoch(self):
        if hasattr(self, "job"):
            closed = Event.objects.filter(job=self.job, kind="epoch")
            seen = [(event.data["generation"], event.epoch) for event in closed]
            assert len(seen) == len(set(seen))
            assert not Event.objects.filter(job=self.job, kind="replay_differs").exists()


@pytest.mark.django_db
def test_any_order_of_verbs_keeps_the_promises():
    run_state_machine_as_test(
        JobLife,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
