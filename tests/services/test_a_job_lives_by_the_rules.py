"""Submit, claim, beat, checkpoint, land, complete: the life of a job on the real database."""

from dataclasses import replace

import pytest

from heimdall.trainer.protocol import EpochDone, Started
from tests.support.stored import stored_checkpoint
from training import services
from training.errors import NotFound, StaleAttempt, TransitionRefused
from training.lifecycle import Answer
from training.models import Checkpoint, Deletion, Event, LogChunk, Metric, TrainingJob
from training.services import Landing
from training.store.checkpoints import StoredCheckpoint

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("each_database")]


def stored(attempt, step, epoch, kinds=("periodic",), digest=None, val_loss=None) -> StoredCheckpoint:
    digest = digest or f"{attempt.number:04}{step:060}"
    name = f"jobs/{attempt.job_id}/a{attempt.number}/s{step}-{digest[:32]}.safetensors"
    facts = {"step": step, "epoch": epoch, "kinds": kinds, "val_loss": val_loss}
    return stored_checkpoint(name, **facts, digest=digest)


def steps(first, last, epoch=1):
    return [
        {"step": step, "epoch": epoch, "loss": 1.0 / step, "learning_rate": 0.1}
        for step in range(first, last + 1)
    ]


def epoch_message(epoch, step, **values):
    values = {"train_loss": 0.5, "val_loss": 0.4, **values}
    return EpochDone(step, epoch, values, best_epoch=epoch, best_val_loss=0.4, is_best=True)


@pytest.fixture
def job(alice):
    return services.submit(by=alice, job_name="first", recipe="tiny", config={}).job


@pytest.fixture
def attempt(job, node):
    return services.claim(node, slot=0, pid=1)


def test_a_submitted_job_is_queued_with_its_whole_config_and_a_message(job):
    assert (job.status, job.total_epochs, job.config["seed"], job.event_seq) == ("queued", 3, 0, 1)
    from django_q.models import OrmQ

    assert OrmQ.objects.count() == 1


def test_a_slot_that_the_node_does_not_have_takes_nothing(job, node):
    assert (node.slots, services.claim(node, slot=1, pid=1)) == (1, None)
    assert services.claim(node, slot=0, pid=1).job_id == job.pk


def test_a_claim_starts_an_attempt_and_a_second_one_finds_nothing(job, node_of_two):
    first, second = (services.claim(node_of_two, slot=slot, pid=1 + slot) for slot in (0, 1))
    assert (first.number, second) == (1, None)
    job.refresh_from_db()
    assert job.status == "running"
    assert job.lease_expires_at is not None


def test_the_higher_priority_goes_first(job, alice, node):
    urgent = services.submit(by=alice, job_name="urgent", recipe="tiny", config={}, priority=5).job
    assert services.claim(node, slot=0, pid=1).job_id == urgent.pk


def test_beats_write_metrics_progress_and_one_event_an_epoch(attempt):
    services.beat(
        attempt,
        services.Report(steps=steps(1, 4), epochs=[epoch_message(1, 4, val_rmse=float("nan"))], log="hello"),
    )
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.current_step, job.current_epoch, job.val_loss) == (4, 1, 0.4)
    assert job.metrics == {"val_rmse": None}
    assert Metric.objects.filter(job=job).count() == 4
    assert Event.objects.filter(job=job, kind="epoch").count() == 1
    services.beat(
        attempt, services.Report(steps=steps(1, 4), epochs=[epoch_message(1, 4, val_rmse=float("nan"))])
    )
    assert Metric.objects.filter(job=job).count() == 4
    assert Event.objects.filter(job=job, kind="epoch").count() == 1


def test_an_epoch_without_validation_tells_the_loss_of_training(attempt):
    message = replace(epoch_message(1, 4), values={"train_loss": 0.0, "val_loss": None})
    services.beat(attempt, services.Report(steps=steps(1, 4), epochs=[message]))
    assert Event.objects.get(kind="epoch").message.endswith("finished, loss 0.")


def test_the_trainers_process_stays_known(attempt):
    services.beat(attempt, services.Report(trainer_pid=7))
    services.note_started(attempt, Started(step=0, epoch=0, total_steps=12))
    attempt.refresh_from_db()
    assert attempt.trainer_pid == 7


def test_news_whose_answer_was_lost_are_written_once(attempt):
    services.beat(attempt, services.Report(steps=steps(1, 4), log="one\n"))
    services.beat(attempt, services.Report(steps=steps(1, 6), log="one\ntwo\n", is_again=True))
    services.beat(
        attempt, services.Report(steps=steps(7, 8), log="three\n", is_again=True)
    )  # the first try was not written
    services.record_checkpoint(attempt, stored(attempt, 8, 1))
    services.record_checkpoint(attempt, stored(attempt, 8, 1))
    attempt.refresh_from_db()
    assert (attempt.steps_executed, attempt.checkpoints) == (8, 1)
    assert list(LogChunk.objects.order_by("id").values_list("text", flat=True)) == [
        "one\n",
        "two\n",
        "three\n",
    ]
    assert Event.objects.filter(job=attempt.job, kind="checkpoint").count() == 1


def test_a_pause_lands_in_the_transaction_that_makes_its_checkpoint_the_jobs(attempt, alice):
    services.beat(attempt, services.Report(steps=steps(1, 4)))
    asked = services.pause(attempt.job, by=alice)
    assert (asked.answer, asked.job.status, asked.job.stop, asked.job.stop_at) == (
        "noted",
        "running",
        "pause",
        "epoch",
    )
    assert services.read_stop_request(attempt).stop == "pause"
    assert services.land(attempt, stored(attempt, 4, 1, ("pause",))) is Landing.PAUSED
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.status, job.stop, job.latest_checkpoint.step, job.lease_expires_at) == ("paused", "", 4, None)
    assert job.checkpoint.name == job.latest_checkpoint.file.name


def test_a_pause_may_be_strengthened_and_never_weakened(attempt, alice):
    services.pause(attempt.job, by=alice, at="epoch")
    assert services.pause(attempt.job, by=alice, at="step").job.stop_at == "step"
    events = Event.objects.filter(job=attempt.job, kind="pause").count()
    assert services.pause(attempt.job, by=alice, at="epoch").job.stop_at == "step"
    assert Event.objects.filter(job=attempt.job, kind="pause").count() == events == 2


def test_a_withdrawn_pause_lets_the_trainer_go_on(attempt, alice):
    services.pause(attempt.job, by=alice)
    assert services.resume(attempt.job, by=alice).answer is Answer.DONE
    assert services.land(attempt, stored(attempt, 4, 1, ("pause",))) is Landing.GO_ON
    assert Checkpoint.objects.count() == 0
    assert services.land(attempt, stored(attempt, 4, 1, ("pause",)), final=True) is Landing.QUEUED


def test_resume_goes_on_from_the_checkpoint_and_says_so(attempt, alice, node):
    services.beat(attempt, services.Report(steps=steps(1, 4)))
    services.pause(attempt.job, by=alice, at="step")
    services.land(attempt, stored(attempt, 4, 1, ("pause",)))
    answer = services.resume(attempt.job, by=alice)
    assert answer.resumes_from == {"epoch": 1, "step": 4}
    assert answer.task_id
    again = services.claim(node, slot=0, pid=1)
    assert (again.number, again.started_from.step, again.started_step) == (2, 4, 4)
    with pytest.raises(TransitionRefused, match="Cannot resume a running job"):
        services.resume(attempt.job, by=alice)


def test_a_long_log_is_kept_whole_and_once_however_often_it_is_sent(attempt):
    printed = "".join(f"line {number:06}\0\n" for number in range(12_000))  # three chunks
    services.beat(attempt, services.Report(log="before\n"))
    services.beat(attempt, services.Report(log=printed))
    services.beat(attempt, services.Report(log=printed + "after\n", is_again=True))
    written = "".join(LogChunk.objects.order_by("id").values_list("text", flat=True))
    assert written == "before\n" + printed.replace("\0", "\\0") + "after\n"


def test_a_crash_rolls_back_to_the_checkpoint_and_deletes_what_lies_beyond(attempt):
    services.beat(attempt, services.Report(steps=steps(1, 4), epochs=[epoch_message(1, 4)]))
    services.record_checkpoint(attempt, stored(attempt, 4, 1))
    services.beat(attempt, services.Report(steps=steps(5, 9, epoch=2)))
    services.crash(attempt, exit_code=-9)
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.status, job.current_step, job.current_epoch, job.val_loss) == ("queued", 4, 1, 0.4)
    assert list(Metric.objects.filter(job=job).values_list("step", flat=True)) == [1, 2, 3, 4]
    assert "signal 9, SIGKILL" in Event.objects.get(job=job, kind="crash").message
    assert "Rolled back to step 4" in Event.objects.get(job=job, kind="crash").message


def test_a_checkpoint_before_validation_makes_the_epoch_open_again(attempt):
    services.beat(attempt, services.Report(steps=steps(1, 4), epochs=[epoch_message(1, 4)]))
    services.record_checkpoint(attempt, stored(attempt, 4, 0))
    services.crash(attempt, exit_code=1)
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.current_step, job.current_epoch, job.val_loss, job.best_epoch) == (4, 0, None, None)
    assert Metric.objects.get(job=job, step=4).epoch_values is None


def test_three_deaths_near_one_step_fail_the_job(attempt, node):
    for number in (1, 2, 3):
        services.beat(attempt, services.Report(steps=steps(1, 5)))
        status = services.crash(attempt, exit_code=-11, detail="the end of the log")
        assert status == ("failed" if number == 3 else "queued")
        attempt = services.claim(node, slot=0, pid=1) or attempt
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert job.error_code == "crash_loop"
    assert "SIGSEGV" in job.error_message
    assert "the end of the log" in job.error_message


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (70, "the pipe from its supervisor was closed"),
        (72, "could not read a message of its supervisor"),
        (73, "os.closerange"),
        (1, "(exit code 1)"),
    ],
)
def test_an_end_of_a_trainer_is_explained(attempt, exit_code, words):
    assert services.crash(attempt, exit_code=exit_code) == "queued"
    assert words in Event.objects.get(job=attempt.job, kind="crash").message


def test_a_trainer_that_its_code_ended_is_not_tried_again_unless_it_was_to_stop(attempt, node, alice):
    services.pause(attempt.job, by=alice)
    assert services.crash(attempt, exit_code=0) == "paused"
    attempt.job.refresh_from_db()
    services.resume(attempt.job, by=alice)
    again = services.claim(node, slot=0, pid=1)
    assert services.crash(again, exit_code=0, detail="the end of the log") == "failed"
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert job.error_code == "ended_itself"
    assert job.error_message.startswith(
        "The trainer ended by itself (exit code 0: its code ended the process"
    )
    assert job.error_message.endswith("the end of the log")


def test_deaths_that_get_further_are_no_loop_until_there_are_ten_without_a_checkpoint(attempt, node):
    for number in range(1, 11):
        services.beat(attempt, services.Report(steps=steps(1, number)))
        status = services.crash(attempt, exit_code=1)
        assert status == ("failed" if number == 10 else "queued")
        attempt = services.claim(node, slot=0, pid=1) or attempt


def test_a_stale_worker_changes_nothing(attempt, node):
    services.crash(attempt, exit_code=1)
    services.claim(node, slot=0, pid=2)
    before = TrainingJob.objects.values().get(pk=attempt.job_id)
    for verb in (
        lambda: services.beat(attempt, services.Report(steps=steps(1, 2), log="zombie")),
        lambda: services.read_stop_request(attempt),
        lambda: services.record_checkpoint(attempt, stored(attempt, 2, 0)),
        lambda: services.land(attempt, None, draining=True),
        lambda: services.complete(attempt, stored(attempt, 2, 0)),
        lambda: services.fail(attempt, code="x", message="y"),
        lambda: services.crash(attempt, exit_code=1),
        lambda: services.note(attempt, "x", "y"),
        lambda: services.note_started(attempt, Started(0, 0, 12)),
    ):
        with pytest.raises(StaleAttempt):
            verb()
    assert TrainingJob.objects.values().get(pk=attempt.job_id) == before
    assert Metric.objects.count() == Checkpoint.objects.count() == 0


def test_completion_beats_every_stop(attempt, alice):
    services.cancel(attempt.job, by=alice)
    services.complete(attempt, stored(attempt, 12, 3, ("final",)))
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.status, job.stop, job.current_epoch, job.current_step) == ("completed", "", 3, 12)
    said = Event.objects.get(job=job, kind="complete").message
    assert said == "Completed after 3 epochs. It was at its end before the cancel came."


def test_a_failure_under_cancel_is_a_cancelled_job(attempt, alice):
    services.cancel(attempt.job, by=alice)
    services.fail(attempt, code="recipe_error", message="ValueError: no")
    assert TrainingJob.objects.get(pk=attempt.job_id).status == "cancelled"


def test_a_bad_checkpoint_is_set_aside_for_the_one_before(attempt, node, alice):
    services.beat(attempt, services.Report(steps=steps(1, 8)))
    good = services.record_checkpoint(attempt, stored(attempt, 4, 0))
    bad = services.record_checkpoint(attempt, stored(attempt, 8, 0))
    services.crash(attempt, exit_code=1)
    again = services.claim(node, slot=0, pid=1)
    assert again.started_from == bad
    assert services.quarantine(again, bad, "the digest differs") == good
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.latest_checkpoint, job.current_step) == (good, 4)
    from training.errors import NoGoodCheckpoint

    with pytest.raises(NoGoodCheckpoint):
        services.quarantine(again, good, "this one too")
    services.fail(again, code="no_good_checkpoint", message="All bad.")
    job.refresh_from_db()
    with pytest.raises(TransitionRefused, match="None of this job's checkpoints"):
        services.resume(job, by=alice)
    assert services.restart(job, by=alice).resumes_from == {"epoch": 0, "step": 0}


def test_delete_removes_the_row_and_its_history(attempt, alice):
    services.record_checkpoint(attempt, stored(attempt, 4, 0))
    with pytest.raises(TransitionRefused, match="Cannot delete a running job"):
        services.delete(attempt.job, by=alice)
    services.complete(attempt, stored(attempt, 12, 3, ("final",)))
    services.delete(attempt.job, by=alice)
    assert TrainingJob.objects.count() == Checkpoint.objects.count() == Event.objects.count() == 0
    kept = Deletion.objects.get()
    assert (kept.job_number, kept.user, kept.owner, kept.status) == (
        attempt.job_id,
        alice,
        alice,
        "completed",
    )
    with pytest.raises(NotFound):
        services.resume(attempt.job, by=alice)


def test_a_job_has_one_final_checkpoint_though_its_trainer_died_after_the_first(attempt, node):
    services.record_checkpoint(attempt, stored(attempt, 12, 3, ("best", "final")))
    services.crash(attempt, exit_code=-9)
    second = services.claim(node, slot=0, pid=1)
    services.complete(second, stored(second, 12, 3, ("final",)))
    kinds = {row.attempt: row.kinds for row in Checkpoint.objects.filter(job=attempt.job_id)}
    assert kinds == {1: ["best", "periodic"], 2: ["final"]}


def test_retention_keeps_the_newest_the_best_the_pinned_and_the_final(attempt, alice):
    rows = {}
    for step, loss in ((1, 0.9), (2, 0.1), (3, 0.5), (4, 0.6), (5, 0.7), (6, 0.8), (7, 0.85)):
        kinds = ("periodic", "best") if loss <= 0.1 else ("periodic",)
        rows[step] = services.record_checkpoint(attempt, stored(attempt, step, 0, kinds, val_loss=loss))
    services.pin(rows[1], by=alice, pinned=True)
    job = attempt.job
    TrainingJob.objects.filter(pk=job.pk).update(config=job.config | {"keep_last": 2, "keep_best": 1})
    services.retire_checkpoints(job)
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [1, 2, 6, 7]


def test_events_are_numbered_without_a_gap(attempt, alice):
    services.beat(attempt, services.Report(steps=steps(1, 4), epochs=[epoch_message(1, 4)]))
    services.record_checkpoint(attempt, stored(attempt, 4, 1))
    services.pause(attempt.job, by=alice)
    services.land(attempt, stored(attempt, 5, 1, ("pause",)))
    services.edit(attempt.job, by=alice, job_name="another name")
    numbers = list(Event.objects.values_list("seq", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    assert TrainingJob.objects.get(pk=attempt.job_id).event_seq == len(numbers)


def test_an_expired_lease_is_reaped_once_and_a_renewed_one_is_not(attempt):
    assert services.expired_attempts() == []
    TrainingJob.objects.update(lease_expires_at="2020-01-01T00:00:00Z")
    (found,) = services.expired_attempts()
    services.beat(attempt)
    assert services.reap(found) is False
    TrainingJob.objects.update(lease_expires_at="2020-01-01T00:00:00Z")
    assert services.reap(found) is True
    assert services.reap(found) is False
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.status, job.crashes_at_step) == ("queued", 0)


def test_reaping_a_pausing_job_lands_it_paused_at_its_last_checkpoint(attempt, alice):
    services.beat(attempt, services.Report(steps=steps(1, 4)))
    services.record_checkpoint(attempt, stored(attempt, 4, 0))
    services.beat(attempt, services.Report(steps=steps(5, 6)))
    services.pause(attempt.job, by=alice)
    assert services.reap(attempt, even_if_leased=True)
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert (job.status, job.stop, job.current_step) == ("paused", "", 4)


def test_an_attempt_of_an_earlier_boot_or_a_dead_supervisor_is_orphaned(attempt, node):
    assert services.orphaned_attempts(node, lambda pid, started_at: True) == []
    assert [found.pk for found in services.orphaned_attempts(node, lambda pid, started_at: False)] == [
        attempt.pk
    ]
    node.boot_id = "another boot"
    assert [found.pk for found in services.orphaned_attempts(node, lambda pid, started_at: True)] == [
        attempt.pk
    ]


def test_what_no_database_can_hold_is_stored_as_escapes(job, node):
    attempt = services.claim(node, slot=0, pid=1)
    bad = "NUL \x00 and half of a pair \ud800"
    values = {"train_loss": 0.5, "said": bad, bad: 1}
    services.beat(
        attempt,
        services.Report(steps=steps(1, 1), epochs=[EpochDone(1, 1, values, artifact={"said": bad})], log=bad),
    )
    services.fail(attempt, code="recipe_error", message=bad)
    job.refresh_from_db()
    held = "NUL \\0 and half of a pair \\ud800"
    assert (job.error_message, job.metrics) == (held, {"said": held, held: 1})
    assert job.log_chunks.get().text == held
    assert job.artifact.content == {"said": held}
    assert Event.objects.filter(job=job).order_by("seq").last().message == f"Failed: {held}"
