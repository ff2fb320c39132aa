"""strategy: fsdp. Each rank holds some rows of every weight; the file holds them whole, for any number of ranks."""

import sys

import pytest
import torch

from heimdall import codec
from heimdall.trainer.warm import WarmLauncher
from tests.engine.rank_attempts import RankAttempt, differences, resumed, travel
from tests.engine.sameness import difference
from tests.engine.test_a_trainer_process_is_started_read_and_ended import NoLauncher

pytest.importorskip("torch.distributed.fsdp", reason="needs a torch with fully_shard").__dict__["fully_shard"]
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="several ranks need Linux"),
]
SHARDED = {
    "strategy": "fsdp",
    "batch_size": 12,
    "samples": 56,
    "validation_samples": 7,
    "epochs": 2,
    "grad_accumulation": 2,
}


@pytest.fixture(scope="module")
def launcher():
    launcher = WarmLauncher(preload=["tests.engine.rank_driver"], cold=NoLauncher())
    yield launcher
    launcher.close()


@pytest.mark.parametrize(("ranks", "precision"), [(2, "bf16"), (3, "fp32")])
def test_stopped_and_resumed_each_rank_has_the_same_rows(ranks, precision, launcher, tmp_path):
    config = SHARDED | {"devices": ranks, "precision": precision}
    disturbed = travel(launcher, tmp_path / "disturbed", config, ranks, [1, 4])
    undisturbed = travel(launcher, tmp_path / "undisturbed", config, ranks, [])
    assert differences(disturbed, undisturbed, ranks) == []


def test_the_file_is_whole_and_goes_to_one_device_and_back(launcher, tmp_path):
    config = SHARDED | {"devices": 3}
    told = RankAttempt(launcher, tmp_path / "three", config, 3, until_step=2).run()
    whole = codec.load(told.last_staged.path)[0]
    assert whole["model"]["1.weight"].shape == (16, 36)
    assert whole["optimizer"]["state"][0]["exp_avg"].shape == (16, 36)
    start = {**resumed(told), "carry": "training", "until_step": 2}
    one = RankAttempt(
        launcher, tmp_path / "one", config | {"devices": 1, "strategy": "ddp"}, 1, **start
    ).run()
    back = RankAttempt(launcher, tmp_path / "back", config, 3, **{**start, **resumed(one)}).run()
    for found in (one, back):
        loaded = codec.load(found.last_staged.path)[0]
        for part in ("model", "optimizer", "progress"):
            assert difference(loaded[part], whole[part], part) == ""
    assert all(torch.isfinite(weight).all() for weight in whole["model"].values())
