"""Adapters replace or call what is private in a framework. Another text of that is noticed here, before a user does.

Where this fails after an upgrade: read what changed, try all examples (`make exact PROGRAMS=all`), then write down
the new digests, with TESTED of the adapter and the ranges in docs/scripts.md.
"""

import hashlib
import inspect

import accelerate
import lightning
import pytest
import transformers
from accelerate.data_loader import DataLoaderShard
from lightning.pytorch.loops.fetchers import _PrefetchDataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from transformers import Trainer

from heimdall.attached import hugging_face
from heimdall.attached import lightning as lightning_adapter
from tests.attached.scripts import ROOT

READ = {
    # hugging_face.py: replaced, or in between
    Trainer._init_training_state: "8fbd17ebb7d3793d",
    Trainer._prepare_for_training: "28182cbf71da73dd",
    Trainer._run_epoch: "31aff00f34c302a2",
    Trainer._load_rng_state: "d5ebdfc0a0884c4b",
    Trainer._finalize_training: "6d6d83d6a2715f2a",
    Trainer._maybe_log_save_evaluate: "af101534f0f7b2d7",
    Trainer.get_batch_samples: "0b3727386f73f670",
    # lightning.py: replaced, called, or counted upon
    _FitLoop.setup_data: "77855202334401d5",
    _FitLoop.reset: "ee34bf3662fe2739",
    _TrainingEpochLoop.reset: "0014631aabe0ac52",
    _TrainingEpochLoop.on_run_start: "4993b0dcc52bf919",
    _PrefetchDataFetcher: "f0d104209f783101",
    _CheckpointConnector.dump_checkpoint: "49e50604a382c301",
    _CheckpointConnector.resume_start: "0b06dbfdca07b9b6",
    _CheckpointConnector._restore_modules_and_callbacks: "8a1e9a756740e630",
    # accelerate.py: it reads its base loader a batch ahead
    DataLoaderShard.__iter__: "77b896b76f3c73e9",
}


def digest_of(known) -> str:
    return hashlib.sha256(inspect.getsource(known).encode()).hexdigest()[:16]


@pytest.mark.parametrize("known", READ, ids=lambda known: known.__qualname__)
def test_it_is_the_text_that_the_adapter_was_written_for(known):
    assert digest_of(known) == READ[known]


def test_every_method_that_is_replaced_is_known_here():
    assert {f"Trainer.{name}" for name in hugging_face.REPLACED} <= {known.__qualname__ for known in READ}


@pytest.mark.parametrize(
    ("package", "tested"),
    [(transformers, hugging_face.TESTED), (lightning, lightning_adapter.TESTED), (accelerate, "1.15")],
    ids=["transformers", "lightning", "accelerate"],
)
def test_the_version_that_is_installed_is_the_one_that_the_documents_name(package, tested):
    assert package.__version__.startswith(f"{tested}.")
    assert f"{package.__name__} {tested}" in (ROOT / "docs/scripts.md").read_text()


def test_another_version_is_refused_with_a_sentence(monkeypatch):
    import transformers as installed  # it puts another module in its place once Trainer is loaded

    monkeypatch.setattr(installed, "__version__", "6.1.0")
    with pytest.raises(RuntimeError, match=r"knows transformers 5.24, and 6.1.0 is installed: install"):
        hugging_face.attach_trainer(None, None)
    monkeypatch.setattr(lightning, "__version__", "3.0.0")
    trainer = lightning.Trainer.__new__(lightning.Trainer)
    with pytest.raises(RuntimeError, match=r"knows Lightning 2.6, and 3.0.0 is installed: install"):
        lightning_adapter.attach_trainer(trainer, None)
