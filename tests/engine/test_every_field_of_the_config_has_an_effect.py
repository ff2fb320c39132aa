"""A field that is accepted is observed: another value gives another training, or another behaviour."""

import multiprocessing

import pytest
import torch

from heimdall import codec
from heimdall.engine import environment
from heimdall.engine.errors import Refused
from heimdall.engine.recipe_job import load_recipe
from heimdall.recipes.config import TrainingConfig
from tests.engine.attempts import Stop, Told, attempt, config_of, spec_of
from tests.engine.stopping import StoppingJob

BASE = {"epochs": 2, "samples": 32, "grad_accumulation": 2, "keep_best": 0}
CHANGES_THE_WEIGHTS = {
    "epochs": 3,
    "batch_size": 4,
    "learning_rate": 0.002,
    "weight_decay": 0.5,
    "optimizer": "sgd",
    "lr_scheduler": "constant",
    "warmup_epochs": 1,
    "max_grad_norm": 0.1,
    "grad_accumulation": 1,
    "seed": 1,
    "precision": "bf16",
    "ema_decay": 0.9,
}
ELSEWHERE = {
    "drop_last",
    "early_stop_patience",
    "early_stop_delta",
    "validation_split",
    "num_workers",
    "device",
    "devices",  # these and the next ones: test_ranks_that_train_together_are_resumed_exactly
    "hosts",
    "logical_ranks",
    "strategy",
    "other_device_count",
    "deterministic",
    "try_resume",  # test_what_cannot_be_resumed_fails_at_once
    "checkpoint_every_epochs",
    "checkpoint_every_minutes",
    "keep_best",
}
OF_THE_STORE = {"keep_last"}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return digest(attempt(spec_of(tmp_path_factory.mktemp("base"), config_of(**BASE))))


def train(tmp_path, **fields) -> Told:
    return attempt(spec_of(tmp_path, config_of(**(BASE | fields))))


def digest(told: Told) -> str:
    return told.last_staged.digest


def kinds(told: Told) -> list[tuple[int, list[str]]]:
    return [(each.epoch, each.kinds) for each in told.of("staged")]


def test_every_field_is_looked_at():
    assert CHANGES_THE_WEIGHTS.keys() | ELSEWHERE | OF_THE_STORE == TrainingConfig.model_fields.keys()


@pytest.mark.parametrize("field", CHANGES_THE_WEIGHTS)
def test_another_value_gives_another_state(field, tmp_path, base):
    assert digest(train(tmp_path, **{field: CHANGES_THE_WEIGHTS[field]})) != base


def test_a_short_last_batch_is_trained_on_or_left_out(tmp_path):
    steps = []
    for drop_last in (False, True):
        fields = {"samples": 35, "grad_accumulation": 1, "drop_last": drop_last}
        told = train(tmp_path / str(drop_last), **fields)
        steps.append((told.of("started")[0].total_steps, len(told.rows)))
    assert steps == [(10, 10), (8, 8)]


def test_equal_configs_give_equal_states(tmp_path, base):
    assert digest(train(tmp_path)) == base


def test_fp16_scales_the_loss_and_leaves_out_steps_that_overflow(tmp_path):
    loaded, _ = codec.load(train(tmp_path, precision="fp16").last_staged.path)
    assert loaded["scaler"]["scale"] >= 1
    values = train(tmp_path / "more", precision="fp16", overflows=True, epochs=5).of("epoch")[-1].values
    assert values["steps_skipped"] >= 1


@pytest.mark.parametrize(("patience", "epochs"), [(0, 6), (2, 3), (3, 4)])
def test_patience_ends_a_training_that_gets_no_better(patience, epochs, tmp_path):
    told = train(tmp_path, worsens=True, epochs=6, early_stop_patience=patience)
    assert len(told.of("epoch")) == epochs
    assert told.messages[-1].reason == ("early_stopping" if patience else "epochs")


def test_delta_is_the_gain_that_patience_wants(tmp_path):
    assert len(train(tmp_path, epochs=6, early_stop_patience=2).of("epoch")) == 6
    told = train(tmp_path / "delta", epochs=6, early_stop_patience=2, early_stop_delta=100.0)
    assert len(told.of("epoch")) == 3


def test_a_part_of_the_data_is_kept_for_validation(tmp_path):
    split = {"validation_samples": 0}
    for share, steps in ((0.5, 1), (0.0, 2)):
        told = train(tmp_path / str(share), **split, validation_split=share)
        assert told.of("started")[0].steps_per_epoch == steps
        assert (told.of("epoch")[0].values["val_loss"] is None) == (share == 0)
        assert (told.of("epoch")[0].best_val_loss is None) == (share == 0)


def test_loader_workers_are_processes_and_change_nothing(tmp_path, base):
    before = set(multiprocessing.active_children())
    work = StoppingJob(spec_of(tmp_path, config_of(**BASE, num_workers=2)), Stop())
    work.start(*load_recipe(work._spec))
    work.train()
    assert len(set(multiprocessing.active_children()) - before) == 2
    assert digest(work.told) == base


def test_cuda_where_there_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Refused) as caught:
        attempt(spec_of(tmp_path, config_of(**BASE), device="cuda"))
    assert caught.value.code == "no_device"


def test_the_first_device_is_kept(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert environment.choose_device("auto", {}).type == "cuda"
    assert environment.choose_device("auto", {"device": "cpu"}).type == "cpu"
    assert environment.choose_device("cpu", {}).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert environment.choose_device("auto", {"device": "cuda"}).type == "cpu"


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_algorithms_are_used(deterministic, tmp_path):
    told = train(tmp_path, deterministic=deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert told.of("started")[0].environment["deterministic"] == deterministic


def test_checkpoints_every_so_many_epochs(tmp_path):
    told = train(tmp_path, epochs=5, checkpoint_every_epochs=2)
    assert kinds(told) == [(2, ("periodic",)), (4, ("periodic",)), (5, ("final",))]
    assert kinds(train(tmp_path / "none", checkpoint_every_epochs=0)) == [(2, ("final",))]


def test_checkpoints_every_so_many_minutes(tmp_path):
    told = train(tmp_path, checkpoint_every_epochs=0, checkpoint_every_minutes=1e-9)
    assert any(each.kinds == ("periodic",) for each in told.of("staged"))


def test_the_best_are_kept(tmp_path):
    told = train(tmp_path, epochs=3, worsens=True, keep_best=1, checkpoint_every_epochs=0)
    assert kinds(told) == [(1, ("best",)), (3, ("final",))]
