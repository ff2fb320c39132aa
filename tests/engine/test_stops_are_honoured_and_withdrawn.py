"""What the supervisor says while a training is under way, and what the trainer answers."""

import pytest

from heimdall import failpoints
from heimdall.engine.control import EPOCH, STEP, StopRequests
from heimdall.engine.recipe_job import load_recipe
from heimdall.engine.snapshot import MOST_UNSTORED
from heimdall.trainer.protocol import Exit, GoOn, StopTraining
from tests.engine.attempts import Stop, config_of, spec_of
from tests.engine.stopping import StoppingJob


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.configure("")


class Supervisor(StoppingJob):
    """Answers with what a test says; `answers` maps a kind of message to the messages that follow it, once."""

    def __init__(self, spec, answers=None, stop=None, *, stores=True):
        self.answers, self.stores = answers or {}, stores
        super().__init__(spec, stop or Stop())

    def answer(self, message):
        kind = message.kind
        if kind in self.answers:
            self.told.messages.append(message)
            for each in self.answers.pop(kind):
                self.requests.receive(each)
        elif self.stores or kind != "staged":
            super().answer(message)
        else:
            self.told.messages.append(message)


def train(tmp_path, answers=None, stop=None, *, stores=True, **config):
    work = Supervisor(spec_of(tmp_path, config_of(**({"epochs": 3} | config))), answers, stop, stores=stores)
    work.start(*load_recipe(work._spec))
    work.train()
    return work.told


def final_digest(told):
    return next(each.digest for each in told.of("staged") if "final" in each.kinds)


def test_a_stop_that_is_withdrawn_after_it_was_honoured_changes_nothing(tmp_path):
    alone = train(tmp_path / "alone")
    told = train(tmp_path / "withdrawn", {"stopped": [GoOn()]}, Stop(after_step=5))
    assert [message.kind for message in told.messages if message.kind in ("stopped", "finished")] == [
        "stopped",
        "finished",
    ]
    assert final_digest(told) == final_digest(alone)
    assert told.rows == alone.rows


def test_a_stop_that_is_withdrawn_before_it_was_honoured_is_never_seen(tmp_path):
    asked = [StopTraining("epoch"), GoOn()]
    told = train(tmp_path, {"started": asked})
    assert told.end == "finished"
    assert not told.of("stopped")


def test_a_stop_that_is_withdrawn_in_validation_repeats_it_whole(tmp_path):
    alone = train(tmp_path / "alone")
    answers = {"stopped": [GoOn()]}
    told = train(tmp_path / "withdrawn", answers, Stop(in_validation=2), checkpoint_every_epochs=0)
    assert told.of("stopped")[0].step == 16
    assert told.of("epoch") == alone.of("epoch")
    assert final_digest(told) == final_digest(alone)


def test_a_stop_at_the_epoch_may_become_one_at_the_step(tmp_path):
    requests = [StopTraining("epoch"), StopTraining("step")]
    told = train(tmp_path, {"started": requests})
    assert told.of("stopped")[0].step == 0


def test_a_stop_in_the_last_epoch_ends_in_the_end(tmp_path):
    told = train(tmp_path, None, Stop(at_epoch=3))
    assert told.end == "finished"
    assert "pause" not in told.last_staged.kinds


def test_one_file_serves_epoch_best_and_pause(tmp_path):
    told = train(tmp_path, None, Stop(at_epoch=1))
    assert [each.kinds for each in told.of("staged")] == [("periodic", "best", "pause")]


def test_an_exit_in_the_middle_ends_it_without_a_checkpoint(tmp_path):
    told = train(tmp_path, {"phase": [Exit()]})
    assert not told.of("staged")
    assert len(told.rows) <= 1


def test_a_failed_periodic_checkpoint_is_told_and_the_training_goes_on(tmp_path):
    alone = train(tmp_path / "alone")
    failpoints.configure("before_write=raise")
    told = train(tmp_path / "failed")
    assert [each.kinds for each in told.of("checkpoint_failed")] == [("periodic", "best")]
    assert "failpoint before_write" in told.of("checkpoint_failed")[0].error
    assert final_digest(told) == final_digest(alone)


def test_a_failed_pause_checkpoint_is_tried_again(tmp_path):
    failpoints.configure("before_write=raise")
    told = train(tmp_path, None, Stop(after_step=2))
    assert [message.kind for message in told.messages[-3:]] == ["checkpoint_failed", "staged", "stopped"]
    assert told.last_staged.step == 2


def test_a_failed_pause_checkpoint_can_be_withdrawn(tmp_path):
    failpoints.configure("before_write=raise")
    told = train(tmp_path, {"checkpoint_failed": [GoOn()]}, Stop(after_step=2))
    assert not told.of("stopped")
    assert told.end == "finished"


def test_checkpoints_that_nobody_stores_do_not_fill_the_disk(tmp_path):
    told = train(tmp_path, stores=False, epochs=30, keep_best=0, samples=8)
    # One or two may be on their way when the limit is reached; the final one is always made.
    assert MOST_UNSTORED < len(told.of("staged")) <= MOST_UNSTORED + 3
    assert len(told.of("checkpoint_failed")) == 1
    assert told.last_staged.kinds == ("periodic", "final")


def test_the_newest_best_one_is_held_back_and_told_when_there_is_room(tmp_path):
    stored = {"finished": [Exit()]}
    told = train(tmp_path, stored, stores=False, epochs=30, samples=8, learning_rate=0.01)
    best = told.of("epoch")[-1].best_epoch
    staged = told.of("staged")
    assert len(staged) <= MOST_UNSTORED + 3
    assert max(each.epoch for each in staged if "best" in each.kinds) == best
    assert len(list(tmp_path.glob("*.safetensors"))) == len(staged)


def test_wishes_replace_each_other():
    requests = StopRequests()
    assert requests.poll() == ""
    requests.receive(StopTraining("epoch"))
    assert requests.poll() == EPOCH
    requests.receive(StopTraining("step"))
    assert requests.poll() == STEP
    requests.receive(GoOn())
    assert requests.poll() == ""
    assert requests.wait_for_answer()
    requests.receive(Exit())
    assert not requests.wait_for_answer()
