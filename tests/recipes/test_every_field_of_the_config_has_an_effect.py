"""No field is accepted and then ignored: each changes something that can be seen from outside."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from heimdall.engine.errors import Refused
from heimdall.recipes import registry
from tests.conftest import give_checkpoint
from tests.recipes.in_process import Run, train
from training.models import Checkpoint
from training.services.retention import retire_checkpoints

torch.set_num_threads(1)

SMALL = {
    "epochs": 2,
    "batch_size": 4,
    "samples_per_epoch": 16,
    "context_length": 8,
    "layers": 1,
    "heads": 2,
    "width": 8,
    "warmup_epochs": 0,
    "validation_split": 0.2,
    "max_chars": 4000,
}


@dataclass
class Change:
    """Two configs that differ in one field, and what must differ in what they do."""

    value: Any
    sees: Callable[[Run, Run], bool] | None = None
    beside: dict[str, Any] = field(default_factory=dict)


def weights_differ(before: Run, after: Run) -> bool:
    left, right = before.weights, after.weights
    if {name: tensor.shape for name, tensor in left.items()} != {n: t.shape for n, t in right.items()}:
        return True
    return not all(torch.equal(left[name], right[name]) for name in left)


def weights_are_equal(before: Run, after: Run) -> bool:
    return not weights_differ(before, after)


def losses(run: Run) -> list[float]:
    return [values["val_loss"] for values in run.epochs]


CHANGES = {
    "epochs": Change(3, lambda before, after: (len(before.epochs), len(after.epochs)) == (2, 3)),
    "batch_size": Change(8, lambda before, after: (len(before.steps), len(after.steps)) == (8, 4)),
    "drop_last": Change(
        True, lambda before, after: (len(before.steps), len(after.steps)) == (8, 6), {"batch_size": 5}
    ),
    "learning_rate": Change(0.01, lambda before, after: after.steps[0]["learning_rate"] == 0.01),
    "weight_decay": Change(0.5, weights_differ),
    "optimizer": Change("sgd", weights_differ),
    "lr_scheduler": Change(
        "constant", lambda before, after: len({row["learning_rate"] for row in after.steps}) == 1
    ),
    "warmup_epochs": Change(
        1, lambda before, after: after.steps[0]["learning_rate"] < before.steps[0]["learning_rate"]
    ),
    "max_grad_norm": Change(0.001, weights_differ, {"optimizer": "sgd"}),
    "grad_accumulation": Change(2, lambda before, after: (len(before.steps), len(after.steps)) == (8, 4)),
    "early_stop_patience": Change(
        1,
        lambda before, after: (
            (before.of("finished")[0].reason, after.of("finished")[0].reason) == ("epochs", "early_stopping")
        ),
        {"epochs": 4, "early_stop_delta": 1000.0},
    ),
    "early_stop_delta": Change(
        1000.0,
        lambda before, after: len(before.epochs) > len(after.epochs) == 2,
        {"epochs": 4, "early_stop_patience": 1, "learning_rate": 0.001},
    ),
    "validation_split": Change(
        0,
        lambda before, after: (
            all(losses(before)) and not any(losses(after)) and weights_differ(before, after)
        ),
    ),
    "seed": Change(1, weights_differ),
    "num_workers": Change(
        2,
        lambda before, after: (
            (before.loader_workers, after.loader_workers) == (0, 2) and weights_are_equal(before, after)
        ),
    ),
    "precision": Change("bf16", weights_differ),
    "ema_decay": Change(
        0.9,
        lambda before, after: (
            "ema" in after.parts and losses(before) != losses(after) and weights_are_equal(before, after)
        ),
    ),
    "deterministic": Change(
        False, lambda before, after: (before.was_deterministic, after.was_deterministic) == (True, False)
    ),
    "checkpoint_every_epochs": Change(
        2, lambda before, after: (before.staged.count("periodic"), after.staged.count("periodic")) == (2, 1)
    ),
    "checkpoint_every_minutes": Change(
        1e-6,
        lambda before, after: (
            len(before.of("staged")) < len(after.of("staged")) and weights_are_equal(before, after)
        ),
        {"checkpoint_every_minutes": 0},
    ),
    "samples_per_epoch": Change(32, lambda before, after: (len(before.steps), len(after.steps)) == (8, 16)),
    "max_chars": Change(3000, weights_differ),
    "token_dropout": Change(0.5, weights_differ),
    "context_length": Change(16, weights_differ),
    "layers": Change(2, lambda before, after: len(before.weights) < len(after.weights)),
    "heads": Change(4, weights_differ),
    "width": Change(16, weights_differ),
    "dropout": Change(0.5, weights_differ),
}
# These have tests of their own below.
OF_THEIR_OWN = {"text_folder", "device", "keep_last", "keep_best", "try_resume"}
# These have an effect on several processes, and their tests there.
OF_RANKS = {
    "devices": "test_ranks_that_train_together_are_resumed_exactly",
    "hosts": "test_ranks_that_train_together_are_resumed_exactly",
    "other_device_count": "test_ranks_that_train_together_are_resumed_exactly",
    "logical_ranks": "test_an_elastic_training_has_the_same_bits_on_any_number_of_ranks",
    "strategy": "test_weights_that_ranks_share_are_whole_in_the_checkpoint",
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    chance = random.Random(1)
    (folder / "a.txt").write_text(" ".join(chance.choice(["one", "two", "three"]) for _ in range(2000)))
    return folder


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    known: dict[str, Run] = {}

    def trained(**changes: Any) -> Run:
        key = repr(sorted(changes.items()))
        if key not in known:
            folder = tmp_path_factory.mktemp("run")
            known[key] = train("language_model", SMALL | {"text_folder": str(text)} | changes, folder)
        return known[key]

    return trained


def test_the_table_knows_every_field() -> None:
    tested = set(CHANGES) | OF_THEIR_OWN | set(OF_RANKS)
    assert tested == set(registry.schema("language_model")["properties"])
    engine = Path(__file__).parents[1] / "engine"
    for name, test in OF_RANKS.items():
        assert f'"{name}": ' in (engine / f"{test}.py").read_text()


@pytest.mark.parametrize("name", CHANGES)
def test_the_field_changes_what_is_seen(name: str, trained: Callable[..., Run]) -> None:
    change = CHANGES[name]
    before, after = trained(**change.beside), trained(**change.beside | {name: change.value})
    assert change.sees is not None
    assert change.sees(before, after)


def test_fp16_scales_the_loss(trained: Callable[..., Run]) -> None:
    assert "scaler" in trained(precision="fp16").parts


def test_another_folder_is_other_text(trained: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("quite another text, many times. " * 200)
    assert weights_differ(trained(), trained(text_folder=str(tmp_path)))


def test_a_device_that_is_not_there_is_refused(trained: Callable[..., Run]) -> None:
    assert trained(device="cpu").of("started")[0].environment["device"] == "cpu"
    if torch.cuda.is_available():
        assert trained(device="cuda").of("started")[0].environment["device"] == "cuda"
    else:
        with pytest.raises(Refused, match="CUDA"):
            trained(device="cuda")


def test_best_checkpoints_are_made_where_some_are_kept(trained: Callable[..., Run]) -> None:
    assert "best" in trained(keep_best=1).staged
    assert "best" not in trained(keep_best=0).staged


@pytest.mark.parametrize(
    ("last", "best", "steps"), [(1, 0, [5]), (2, 0, [4, 5]), (1, 1, [2, 5]), (1, 2, [1, 2, 5])]
)
def test_as_many_checkpoints_are_kept_as_the_config_says(
    last: int, best: int, steps: list[int], make_job: Callable[..., Any]
) -> None:
    job = make_job(recipe="language_model", config={"keep_last": last, "keep_best": best})
    for step, loss in zip(range(1, 6), [0.4, 0.2, 0.5, 0.6, 0.7], strict=True):
        row = give_checkpoint(job, step=step, epoch=step, kinds=("periodic", "best"))
        Checkpoint.objects.filter(pk=row.pk).update(val_loss=loss)
    retire_checkpoints(job)
    assert list(Checkpoint.objects.filter(job=job).order_by("step").values_list("step", flat=True)) == steps
