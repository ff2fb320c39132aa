"""A script that is not resumed exactly is told so by the check, with the cause; one that is, with what was tried."""

import json

import pytest

from heimdall.attached.program import Program
from heimdall.check.__main__ import frameworks_of
from heimdall.check.checking import check
from heimdall.check.rehearsal import Rehearsal
from heimdall.check.report import as_text
from heimdall.recipes.registry import checked
from tests.attached.scripts import spec_of, written

pytestmark = pytest.mark.processes

SCRIPT = """
import os, random, time
import torch, heimdall
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
loader = DataLoader(TensorDataset(torch.randn(20, 2)), 4, shuffle=True)
job = heimdall.attach(model=model, optimizer=optimizer, schedule=schedule)
counter = 0
for epoch in job.epochs(3):
    for (x,) in job.batches(loader):
        counter += 1
        factor = 1.0
        CHANGE
        loss = factor * (model(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        job.log(loss=loss)
"""


@pytest.fixture
def checked_with(launcher, tmp_path):
    def checked_with(change: str, text: str = SCRIPT):
        script = written(tmp_path, text.replace("CHANGE", change))
        return check(Rehearsal(spec_of(tmp_path, script), tmp_path, launcher=launcher), steps=12)

    return checked_with


def test_a_script_with_all_of_its_state_in_parts_is_exact_and_each_broken_restore_is_noticed(checked_with):
    result = checked_with("pass")
    assert result.verdict == "exact"
    assert [control.was_noticed for control in result.controls] == [True] * 4
    assert [1] in result.stops
    assert [5] in result.stops  # the first epoch's last step
    assert "EXACT" in as_text(result)
    assert json.loads(json.dumps(result.as_dict()))["verdict"] == "exact"
    assert result.values[:12] in as_text(result)
    assert len(result.values) == 64


@pytest.mark.parametrize(
    "change",
    [
        "factor = 1 + os.urandom(1)[0] / 255",
        "factor = 1 + time.time() % 1",
        "factor = random.Random().random()",
    ],
)
def test_a_draw_outside_of_the_seeds_is_told_as_one(checked_with, change):
    result = checked_with(change)
    assert result.verdict == "not_repeatable"
    assert result.first_step == 1
    assert "Something is drawn outside of the seeds" in result.reason
    assert "NOT REPEATABLE" in as_text(result)


def test_an_order_that_hangs_on_where_objects_lie_is_told(checked_with):
    """A set of objects without a hash of their own is walked over in the order of their addresses."""
    result = checked_with(
        "factor = 1 + sum(one.number / 3**place for place, one in enumerate(set(things)))",
        SCRIPT.replace(
            "counter = 0",
            "things = [type(f'T{n}', (), {'number': n})() for n in range(40)]\n"
            "junk = [bytearray(os.urandom(1)[0] * 50 + 1) for _ in range(200)]\n"
            "things = [type('T', (), {'number': n, 'junk': bytearray(os.urandom(2)[0] + 1)})() for n in range(500)]\n"
            "counter = 0",
        ),
    )
    assert result.verdict == "not_repeatable"
    assert "the order of a set" in result.reason


def test_a_counter_in_no_part_is_told_as_state_in_no_part(checked_with):
    result = checked_with("factor = 1 + counter / 10")
    assert result.verdict == "differs"
    assert "state that is in no part" in result.reason
    assert "job.values()" in result.reason
    assert result.first_step is not None
    assert result.first_state.startswith("model/")
    assert "DIFFERS" in as_text(result)


def test_the_same_counter_in_a_part_is_exact(checked_with):
    kept = SCRIPT.replace("counter = 0", "kept = job.values(counter=0)")
    kept = kept.replace("        counter += 1", "        kept.counter += 1")
    assert checked_with("factor = 1 + kept.counter / 10", kept).verdict == "exact"


def test_what_cannot_be_noticed_is_said(checked_with):
    """Plain descent with a constant rate has neither state nor schedule."""
    plain = (
        SCRIPT.replace(", momentum=0.9", "")
        .replace(", schedule=schedule", "")
        .replace("schedule.step()", "pass")
    )
    result = checked_with("pass", plain)
    assert result.verdict == "exact"
    assert {control.name: control.was_noticed for control in result.controls} == {
        "generators": True,
        "schedule": False,
        "optimizer": False,
        "position": True,
    }
    assert "a fault there would not have been noticed" in result.reason


def test_a_script_that_fails_is_not_checked(checked_with):
    result = checked_with("raise OSError('no data')")
    assert result.verdict == "not_checked"
    assert "no data" in result.reason


def test_an_operation_that_is_not_deterministic_is_told_by_its_name(checked_with):
    result = checked_with("torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))")
    assert result.verdict == "not_repeatable"
    assert "The operation put_ is not deterministic" in result.reason


def test_a_script_that_ends_at_once_is_not_checked(checked_with):
    result = checked_with("", "print('nothing')\n")
    assert result.verdict == "not_checked"
    assert "after 0 steps" in result.reason


def test_the_server_imports_what_the_script_does(tmp_path):
    written(
        tmp_path,
        "import torch, accelerate\nfrom transformers import Trainer\nimport lightning.pytorch as L\n",
    )
    program = checked(Program, {"command": ["python", "train.py"], "kind": "script"})
    found = frameworks_of(program, tmp_path)
    assert found == ["accelerate", "lightning.pytorch", "transformers.trainer"]
    (tmp_path / "train.py").write_text("not python")
    assert frameworks_of(program, tmp_path) == []
