"""The switch `hook`: the examples without our lines in them are stopped and resumed like those that have them."""

import pytest

from heimdall.check.__main__ import main as check
from tests.attached.scripts import (
    EXAMPLES,
    Attempts,
    difference_of,
    ended,
    spec_of,
    written,
)

pytestmark = pytest.mark.processes


@pytest.fixture
def launcher(launcher_with_frameworks):
    return launcher_with_frameworks


def without_us(example: str) -> str:
    text = (EXAMPLES / example / "train.py").read_text()
    left = text.replace("import heimdall\n", "").replace("trainer = heimdall.attach(trainer)\n", "")
    assert len(text.splitlines()) - len(left.splitlines()) == 2
    assert "heimdall" not in left
    return left


@pytest.mark.parametrize("hook", ["hugging_face", "lightning"])
def test_a_script_unchanged_is_stopped_and_resumed_with_the_same_bits(hook, tmp_path, launcher):
    attempts = Attempts(written(tmp_path, without_us(hook)), tmp_path, launcher, hook=hook)
    straight = attempts.straight
    assert len(straight.rows) == straight.step > 20
    middle = attempts.epoch_ends()[0]
    assert not difference_of(straight, attempts.stopped(middle, middle + 4))
    attached = Attempts(EXAMPLES / hook / "train.py", tmp_path, launcher).straight
    assert not difference_of(straight, attached)


TWO = """
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

class Small(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, number):
        return self.layer(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

class Mine(Trainer):
    def fit(self, *args, **kwargs):
        print("fits")
        return super().fit(*args, **kwargs)

loader = DataLoader(TensorDataset(torch.ones(6, 1)), batch_size=2)
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
for _ in range(2):
    Mine(max_epochs=2, **quiet).fit(Small(), loader)
"""


def test_the_first_trainer_is_attached_and_the_next_one_is_told_apart(tmp_path, launcher):
    found = ended(spec_of(tmp_path, written(tmp_path, TWO), hook="lightning"), launcher)
    assert (found.code, len(found.rows)) == (0, 6), found.log
    assert found.log.count("fits") == 2
    assert "this one is neither saved nor stopped" in found.log


def test_a_hook_without_its_framework_says_what_to_install(tmp_path, launcher):
    script = written(tmp_path, "print('never comes here')")
    spec = spec_of(tmp_path, script, hook="hugging_face", driver=__name__)
    found = ended(spec, launcher)
    assert found.failure.code == "hook_not_found"
    assert "install it there, or leave the hook out" in found.failure.error
    assert "never comes here" not in found.log


def run(channel) -> int:
    """The driver of the test above: a trainer in whose environment a package is missing."""
    from heimdall.attached import hooks, script

    hooks.TRAINERS["hugging_face"] = (("no_such_transformers.trainer",), "train")
    return script.run(channel)


def test_another_version_fails_with_its_sentence_instead_of_training_unsaved(tmp_path, launcher):
    newer = "import lightning\nlightning.__version__ = '3.1.0'\n"
    spec = spec_of(tmp_path, written(tmp_path, newer + TWO), hook="lightning")
    found = ended(spec, launcher)
    assert "knows Lightning 2.6, and 3.1.0 is installed" in found.failure.error
    assert not found.rows


def test_the_check_takes_the_hook_too(capsys):
    assert check(["--hook", "lightning", "--", "bash", "train.sh"]) == 2
    assert "started as python FILE.py" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        check(["--hook", "keras", "--", "python", "train.py"])
    assert "invalid choice: 'keras'" in capsys.readouterr().err
