"""Logical ranks: four shares of each batch for life, on one, two or four processes, and the same bits."""

import sys

import pytest

from heimdall import codec
from heimdall.trainer.warm import WarmLauncher
from tests.engine.rank_attempts import RankAttempt, resumed
from tests.engine.sameness import difference
from tests.engine.test_a_trainer_process_is_started_read_and_ended import NoLauncher

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="several ranks need Linux"),
]
# The last batch of an epoch has 3 samples: one of the four shares has none.
ELASTIC = {
    "devices": "elastic",
    "logical_ranks": 4,
    "batch_size": 8,
    "samples": 35,
    "validation_samples": 6,
    "epochs": 2,
    "grad_accumulation": 2,
    "norm": "layer",
    "counts_samples": False,
    "ema_decay": 0.9,
}


@pytest.fixture(scope="module")
def launcher():
    launcher = WarmLauncher(preload=["tests.engine.rank_driver"], cold=NoLauncher())
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def alone(launcher, tmp_path_factory):
    """Undisturbed, on one process."""
    return RankAttempt(launcher, tmp_path_factory.mktemp("alone"), ELASTIC, 1).run()


@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_gives_the_same_bits(ranks, launcher, tmp_path, alone):
    told = RankAttempt(launcher, tmp_path, ELASTIC, ranks).run()
    assert told.end == "finished"
    assert difference(codec.load(told.last_staged.path)[0], codec.load(alone.last_staged.path)[0]) == ""
    assert told.last_staged.digest == alone.last_staged.digest
    assert repr(told.rows) == repr(alone.rows)
    assert repr(told.of("epoch")) == repr(alone.of("epoch"))


def test_it_grows_and_shrinks_at_each_pause_and_nobody_can_tell(launcher, tmp_path, alone):
    start: dict = {}
    rows = []
    for step, ranks in ((1, 4), (3, 1), (4, 2), (None, 4)):
        attempt = RankAttempt(launcher, tmp_path / str(step), ELASTIC, ranks, until_step=step, **start)
        told = attempt.run()
        assert told.end == ("finished" if step is None else "stopped"), attempt.log
        assert told.of("started")[0].approximate == []
        rows += told.rows
        start = resumed(told)
    assert told.last_staged.digest == alone.last_staged.digest
    assert repr(rows) == repr(alone.rows)


def test_a_plain_running_sum_would_give_other_bits(launcher, tmp_path, alone):
    """The tests above would notice."""
    told = RankAttempt(launcher, tmp_path, ELASTIC, 1, about={"sums_plainly": True}).run()
    assert told.end == "finished"
    assert told.last_staged.digest != alone.last_staged.digest


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"norm": "batch"}, "model/2.running_mean"), ({"counts_samples": True}, "recipe_seen")],
)
def test_what_depends_on_the_number_of_ranks_is_refused(changed, named, launcher, tmp_path):
    told = RankAttempt(launcher, tmp_path, ELASTIC | changed, 1).run()
    assert told.messages[-1].code == "does_not_fit"
    assert named in told.messages[-1].error


def test_a_number_that_does_not_divide_it_is_refused(launcher, tmp_path):
    told = RankAttempt(launcher, tmp_path, ELASTIC, 3).run()
    assert "cannot run on 3 devices" in told.messages[-1].error
