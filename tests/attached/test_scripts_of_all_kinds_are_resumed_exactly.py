"""Loops of one's own and the Trainers of three frameworks: stopped or killed anywhere, the same bits and rows."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heimdall.check.rehearsal import Rehearsed
from tests.attached.scripts import (
    ALONE,
    CASES,
    EXAMPLES,
    FRAMEWORKS,
    ROOT,
    Attempts,
    attempts_of,
    difference_of,
    draw_stops,
    ended,
    spec_of,
    warm,
)

pytestmark = pytest.mark.processes

SEED = 20


@pytest.fixture(scope="module")
def launcher():
    with warm(*FRAMEWORKS) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def known() -> dict[str, Attempts]:
    return {}


@pytest.fixture
def attempts(request, known, launcher, tmp_path_factory) -> Attempts:
    if request.param not in known:
        known[request.param] = attempts_of(request.param, tmp_path_factory.mktemp("attempts"), launcher)
    return known[request.param]


def assert_same(straight: Rehearsed, other: Rehearsed) -> None:
    assert not difference_of(straight, other)


@pytest.mark.parametrize("attempts", CASES, indirect=True)
def test_stopped_at_a_random_step_and_at_an_epochs_last_it_ends_with_the_same_bits(attempts):
    straight = attempts.straight
    middle = attempts.epoch_ends()[0] if len(attempts.epoch_ends()) > 1 else straight.step // 2
    (later,) = draw_stops(straight, 1, random.Random(SEED))
    assert_same(straight, attempts.stopped(*sorted({middle, later})))


@pytest.mark.parametrize("attempts", ["loop", "hugging_face", "lightning", "accelerate"], indirect=True)
def test_killed_after_a_checkpoint_it_goes_on_from_there(attempts):
    after = draw_stops(attempts.straight, 1, random.Random(SEED + 1))[0] // 2
    assert_same(attempts.straight, attempts.killed(after_step=max(after, 1)))


SAVES = """
import runpy, sys, torch
found = runpy.run_path(sys.argv.pop(1), run_name="__main__")
model = found["trainer"].model if "trainer" in found else next(
    found[name] for name in ("model", "policy", "generator") if name in found
)
torch.save(model.state_dict(), "weights-NAME.pt")
"""


@pytest.mark.parametrize("attempts", ["gan", "ppo", "hugging_face", "lightning", "accelerate"], indirect=True)
def test_alone_it_gives_the_same_bits_as_supervised(attempts, launcher, tmp_path):
    """The script writes its weights at its end, once with nobody there and once under a supervisor."""
    found = {}
    for name, driver in {"alone": ALONE, "supervised": "heimdall.attached.script"}.items():
        script = tmp_path / "train.py"
        script.write_text(SAVES.replace("NAME", name))
        spec = spec_of(tmp_path, script, str(attempts.script), *attempts.arguments, driver=driver)
        assert ended(spec, launcher).code == 0
        found[name] = torch.load(tmp_path / f"weights-{name}.pt")
    assert found["alone"].keys() == found["supervised"].keys()
    assert all(torch.equal(found["alone"][key], weight) for key, weight in found["supervised"].items())


def test_a_plain_python_gives_the_same_bits_as_a_trainer(launcher, tmp_path):
    """Without any of ours around it: a new interpreter, in the shell's way."""
    script = tmp_path / "train.py"
    script.write_text(
        (EXAMPLES / "loop" / "train.py").read_text()
        + "\nimport sys\ntorch.save(model.state_dict(), sys.argv[1])\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, "alone.pt"], cwd=tmp_path, env=environment, check=True)
    assert ended(spec_of(tmp_path, script, "supervised.pt"), launcher).code == 0
    alone, supervised = (torch.load(tmp_path / f"{name}.pt") for name in ("alone", "supervised"))
    assert all(torch.equal(alone[key], weight) for key, weight in supervised.items())
    assert len(alone) == len(supervised) > 0


def test_every_example_with_a_script_is_tried_here():
    tried = {example for example, _, _ in CASES.values()}
    scripts = {
        path.parent.name for path in Path(EXAMPLES).glob("*/*.py") if "heimdall.attach" in path.read_text()
    }
    assert tried == scripts
