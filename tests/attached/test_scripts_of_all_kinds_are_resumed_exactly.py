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
    ROOT,
    Attempts,
    attempts_of,
    difference_of,
    draw_stops,
    ended,
    spec_of,
)

pytestmark = pytest.mark.processes

SEED = 20


@pytest.fixture
def launcher(launcher_with_frameworks):
    return launcher_with_frameworks


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


WITH_THEIR_OWN = {
    "lightning": {
        "callbacks=[": "callbacks=[Counting(), ModelCheckpoint('own', save_top_k=-1), ",
        "    logger=False,\n    enable_checkpointing=False,\n": "    logger=CSVLogger('own'), log_every_n_steps=1,\n",
        "import EarlyStopping": "import Callback, EarlyStopping, ModelCheckpoint",
        "import heimdall\n": """import heimdall
from lightning.pytorch.loggers import CSVLogger

class Counting(Callback):
    batches = 0

    def on_train_batch_end(self, *_):
        self.batches += 1

    def on_validation_epoch_end(self, trainer, module):
        module.log("seen", float(self.batches))

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]
""",
    },
    "hugging_face": {
        "tempfile.mkdtemp()": "'own'",
        'save_strategy="no"': 'save_strategy="steps", save_steps=4',
    },
}


@pytest.mark.parametrize("example", WITH_THEIR_OWN)
def test_checkpoints_callbacks_and_loggers_of_their_own_stay_and_change_nothing(example, launcher, tmp_path):
    text = (EXAMPLES / example / "train.py").read_text()
    for old, new in WITH_THEIR_OWN[example].items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    text += "\ntorch.save(trainer.model.state_dict(), 'weights.pt')\n"
    runs = {}
    for name, stops in {"straight": (), "stopped": (7,)}.items():
        script = tmp_path / name / "train.py"
        script.parent.mkdir()
        script.write_text(text)
        found = Attempts(script, script.parent, launcher).stopped(*stops)
        weights = torch.load(script.parent / "weights.pt")
        runs[name] = (
            found.rows,
            found.epochs,
            weights,
            {path.name for path in (script.parent / "own").iterdir()},
        )
    straight, stopped = runs["straight"], runs["stopped"]
    assert straight[:2] == stopped[:2]
    assert all(torch.equal(straight[2][key], weight) for key, weight in stopped[2].items())
    assert straight[3] == stopped[3]
    assert len(straight[3]) > 1


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
