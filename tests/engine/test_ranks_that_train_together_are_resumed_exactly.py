"""Several processes, one training: stopped, killed and resumed in new processes, every rank has the same bits."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from heimdall import codec
from heimdall.trainer import exit_codes
from heimdall.trainer.protocol import Exit, GoOn, StopTraining
from heimdall.trainer.warm import WarmLauncher
from tests.engine.rank_attempts import RankAttempt, differences, resumed, states, travel
from tests.engine.sameness import difference
from tests.engine.test_a_trainer_process_is_started_read_and_ended import NoLauncher

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="several ranks need Linux"),
]
# Groups of 2, 2 and 1 batches, of which the last one is short.
BASE = {
    "batch_size": 12,
    "samples": 56,
    "validation_samples": 7,
    "epochs": 2,
    "grad_accumulation": 2,
    "ema_decay": 0.9,
    "try_resume": False,
}
FP16 = BASE | {"precision": "fp16", "overflows": True}
LONG = BASE | {"epochs": 100_000, "checkpoint_every_minutes": 1e-9}
JOURNEYS = {
    "1 rank": (1, BASE, [2]),
    "2 ranks in fp16": (2, FP16 | {"num_workers": 1}, [1, 5]),
    "3 ranks": (3, BASE, [1, 3, 5]),
    # The last batch has 2 samples: two of the ranks have none of it.
    "4 ranks": (4, BASE | {"batch_size": 8, "samples": 34, "norm": "layer"}, [4]),
}


@pytest.fixture(scope="module")
def launcher():
    launcher = WarmLauncher(preload=["tests.engine.rank_driver"], cold=NoLauncher())
    yield launcher
    launcher.close()


@pytest.mark.parametrize("name", JOURNEYS)
def test_stopped_after_any_step_all_ranks_end_with_the_same_bits(name, launcher, tmp_path):
    ranks, config, stops = JOURNEYS[name]
    config = config | {"devices": ranks}
    disturbed = travel(launcher, tmp_path / "disturbed", config, ranks, stops)
    undisturbed = travel(launcher, tmp_path / "undisturbed", config, ranks, [])
    assert differences(disturbed, undisturbed, ranks) == []
    held = states(undisturbed[1], ranks)
    for other in held[1:]:
        assert difference(held[0]["model"]["1.weight"], other["model"]["1.weight"]) == ""
        assert difference(held[0]["optimizer"], other["optimizer"]) == ""
        assert difference(held[0]["totals"], other["totals"]) == ""
        assert difference(held[0]["rng"], other["rng"]) != ""  # each rank draws its own numbers
        assert held[0]["recipe_seen"]["digest"] != other["recipe_seen"]["digest"]
    loaded, about = codec.load(undisturbed[0][0].last_staged.path)
    assert about["environment"]["world_size"] == ranks
    assert (list(loaded["rng"]) == [str(rank) for rank in range(ranks)]) == (ranks > 1)


def test_without_the_passes_that_order_the_gradients_three_ranks_would_differ(launcher, tmp_path):
    """The test above would notice."""
    about = {"about": {"without_warm_up": True}}
    config = BASE | {"devices": 3}
    disturbed = travel(launcher, tmp_path / "disturbed", config, 3, [1], **about)
    undisturbed = travel(launcher, tmp_path / "undisturbed", config, 3, [], **about)
    assert "the digests differ" in differences(disturbed, undisturbed, 3)


def test_a_rank_that_is_killed_ends_all_at_once_and_its_checkpoint_goes_on_exactly(launcher, tmp_path):
    config = BASE | {
        "devices": 3,
        "epochs": 30,
        "checkpoint_every_epochs": 0,
        "checkpoint_every_minutes": 1e-9,
    }
    attempt = RankAttempt(launcher, tmp_path / "killed", config, 3)
    killed: list[psutil.Process] = []

    def kill_after_a_checkpoint(message) -> None:
        if message.kind == "staged" and not killed:
            killed.extend(attempt.kill_rank(2))

    told = attempt.run(watch=kill_after_a_checkpoint)
    assert attempt.status in (-9, exit_codes.CRASHED), attempt.log
    assert not told.of("failed")  # it is a crash, and another attempt is made
    assert not any(process.is_running() for process in killed)
    last = RankAttempt(launcher, tmp_path / "rest", config, 3, **resumed(told))
    rest = last.run()
    alone = RankAttempt(launcher, tmp_path / "alone", config, 3).run()
    assert rest.end == alone.end == "finished"
    assert rest.last_staged.digest == alone.last_staged.digest


def test_a_stop_that_is_asked_for_is_made_by_all_after_the_same_step_and_may_be_withdrawn(launcher, tmp_path):
    attempt = RankAttempt(
        launcher,
        tmp_path,
        LONG | {"devices": 3, "checkpoint_every_minutes": 0.0, "checkpoint_every_epochs": 0, "keep_best": 0},
        3,
    )
    attempt.answers = [GoOn(), Exit()]
    stops = {1: StopTraining("step"), 3: StopTraining("epoch")}

    def ask(message) -> None:
        if message.kind == "steps":
            stop = stops.pop(len(attempt.told.of("steps")), None)
            if stop is not None:
                attempt.trainer.send(stop)

    told = attempt.run(watch=ask)
    first, second = told.of("stopped")
    assert [staged.step for staged in told.of("staged")] == [first.step, second.step]
    assert second.step == 3 * second.epoch > first.step
    assert [row["step"] for row in told.rows] == list(range(1, second.step + 1))
    assert attempt.status == 0, attempt.log


def test_a_rank_that_fails_alone_says_why(launcher, tmp_path):
    attempt = RankAttempt(launcher, tmp_path, LONG | {"devices": 2}, 2, about={"fails_at_rank": 1})
    told = attempt.run()
    assert told.messages[-1].kind == "failed", attempt.log
    assert told.messages[-1].code == "recipe_error"
    assert "one rank fails on purpose" in told.messages[-1].error
    assert "[rank 1] this rank is about to fail" in attempt.log


def test_another_number_of_ranks_is_refused_or_said_to_be_approximate(launcher, tmp_path):
    config = BASE | {"devices": 2}
    told = RankAttempt(launcher, tmp_path / "two", config, 2, until_step=3).run()
    refused = RankAttempt(launcher, tmp_path / "refused", config | {"devices": 3}, 3, **resumed(told)).run()
    assert refused.messages[-1].code == "does_not_fit"
    assert "made on 2 devices, and the job has 3 now" in refused.messages[-1].error
    for ranks in (1, 3):
        changed = config | {"devices": ranks, "other_device_count": "approximate"}
        taken = RankAttempt(launcher, tmp_path / str(ranks), changed, ranks, **resumed(told)).run()
        assert taken.end == "finished"
        (why,) = [each for each in taken.of("started")[0].approximate if "number of devices" in each]
        assert why == f"the number of devices was 2 and is now {ranks}"
        assert taken.of("started")[0].step == 3


def test_ranks_of_two_hosts_meet_where_they_are_told_and_end_as_ranks_of_one(launcher, tmp_path):
    config = BASE | {"devices": 1, "hosts": 2, "epochs": 1}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    members = [
        RankAttempt(
            launcher,
            tmp_path / str(host),
            config,
            1,
            rank_offset=host,
            world_size=2,
            rendezvous=where,
        )
        for host in (0, 1)
    ]
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(members[1].run)
        told = members[0].run()
        assert told.end == "finished", members[0].log
        members[1].trainer.kill()  # as its supervisor does when the attempt is over
        assert [message.kind for message in other.result().messages] == ["started"]
    one_host = RankAttempt(launcher, tmp_path / "one", config | {"devices": 2, "hosts": 1}, 2).run()
    assert told.last_staged.digest == one_host.last_staged.digest


def test_a_cold_start_makes_ranks_too(tmp_path):
    from heimdall.trainer.cold import ColdLauncher

    told = RankAttempt(ColdLauncher(), tmp_path, BASE | {"devices": 2, "epochs": 1}, 2).run()
    assert told.end == "finished"
    members = told.of("started")[0].ranks
    assert [member["rank"] for member in members] == [0, 1]
    assert len({member["pid"] for member in members}) == 2
    assert Path(told.last_staged.path).exists()
