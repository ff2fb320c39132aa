"""The localization recipe through the real engine: it learns, it is exact, and every field changes something."""

from pathlib import Path

import numpy as np
import pytest
import torch

from heimdall.errors import InvalidConfig
from heimdall.recipes import registry
from heimdall.recipes.base import Plan
from heimdall.recipes.localization import dataset, evaluate
from heimdall.recipes.localization.calibration import Calibration
from heimdall.recipes.localization.config import Config
from heimdall.recipes.localization.recipe import Recipe, Scene, load
from heimdall.recipes.localization.settings import NORTHERN_ITALY, RadioSettings
from tests.recipes.in_process import train

torch.set_num_threads(1)

TINY = {
    "epochs": 2, "batch_size": 64, "samples": 200, "width": 8, "heads": 2, "layers": 1, "refinements": 1,
    "dropout": 0.0, "validation_split": 0.2, "checkpoint_every_minutes": 0.0,
}  # fmt: skip


def weights(run):
    return torch.cat([value.double().flatten() for value in run.weights.values()])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return train("localization", TINY, tmp_path_factory.mktemp("tiny"))


def test_seconds_of_training_beats_the_centroid_and_knows_its_errors(tmp_path):
    raw = {
        "samples": 4000, "epochs": 4, "batch_size": 128, "learning_rate": 0.004, "width": 16, "heads": 2,
        "layers": 1, "dropout": 0.0, "refinements": 1, "checkpoint_every_minutes": 0.0,
    }  # fmt: skip
    run = train("localization", raw, tmp_path)
    config = Config(**raw)
    calibration = Calibration()
    calibration.load_state_dict(run.parts["recipe_calibration"])
    arrays = evaluate.fresh_samples(config.scene, seed=99, samples=1500)
    found = evaluate.evaluate(load(run.parts, config), config.scene, arrays, calibration=calibration)
    rows = {row.name: row.score for row in found.rows}
    assert rows["network"].score < 0.9
    assert rows["network"].p95_m < 1.1 * rows["Gauss-Newton on timing, careful"].p95_m
    assert rows["network"].coverage_68 == pytest.approx(0.68, abs=0.08)
    assert rows["network"].coverage_95 == pytest.approx(0.95, abs=0.05)
    assert rows["network, unrefined"].p50_m < 0.7 * rows["centroid of the receivers"].p50_m
    text = evaluate.table(found)
    assert "Cramer-Rao bound" in text
    assert f"{rows['network'].score:.3f}" in text


def test_metrics_are_metres_and_shares(tiny):
    values = tiny.epochs[-1]
    assert 10 < values["val_p50"] < 100
    assert values["val_p50"] <= values["val_p68"] <= values["val_p95"]
    assert values["val_rmse"] > values["val_p50"]
    assert 0 < values["val_coverage_68"] <= values["val_coverage_95"] <= 1
    assert values["val_unrefined_p50"] > 1000
    assert {"train_loss", "train_unrefined_loss", "val_loss", "val_nll", "val_score"} <= set(values)


def test_two_trainings_are_the_same_to_the_bit(tiny, tmp_path):
    again = train("localization", TINY, tmp_path)
    assert torch.equal(weights(again), weights(tiny))
    assert again.epochs == tiny.epochs


def test_the_cosine_ends_at_one_per_cent(tiny):
    rates = [row["learning_rate"] for row in tiny.steps]
    assert rates[0] == 0.001
    assert 0.00001 <= rates[-1] < 0.001
    recipe = Recipe(Config(**TINY), Path())
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.5)
    schedule = recipe.scheduler(optimizer, Plan(1, 4, 0))
    for _ in range(4):
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


CHANGED = {
    "weight_decay": {"weight_decay": 0.5},
    "optimizer": {"optimizer": "sgd"},
    "samples": {"samples": 300},
    "data_seed": {"data_seed": 0},
    "test_split": {"test_split": 0.4},
    "width": {"width": 16},
    "heads": {"heads": 4},
    "layers": {"layers": 2},
    "dropout": {"dropout": 0.5},
    "refinements": {"refinements": 0},
    "sync_jitter_ns": {"sync_jitter_ns": 30.0},
    "late_arrivals": {"late_arrivals": True},
    "precision": {"precision": "bf16"},
}


@pytest.mark.parametrize("name", CHANGED)
def test_the_field_changes_what_is_trained(name, tiny, tmp_path):
    other = weights(train("localization", TINY | {"epochs": 1} | CHANGED[name], tmp_path))
    assert other.shape != weights(tiny).shape or not torch.equal(other, weights(tiny))
    assert other.isfinite().all()


def test_training_validation_and_test_samples_are_apart_and_the_network_never_sees_the_last():
    config = Config(samples=1000, validation_split=0.2, test_split=0.1)
    scene = Scene.of(config, Path())
    parts = [scene.part(config, split).truth.numpy() for split in dataset.SPLITS]
    assert sum(map(len, parts)) == 1000
    assert len(np.unique(np.concatenate(parts), axis=0)) == 1000
    recipe = Recipe(config, Path())
    assert np.array_equal(recipe.training_samples().truth, parts[0])
    assert np.array_equal(recipe.validation_samples().truth, parts[1])


@pytest.fixture
def scratch(tmp_path):
    """A trainer's scratch folder, into which a dataset was brought."""
    found = tmp_path / "scratch"
    dataset.generate(found / "datasets" / "alps", RadioSettings(), 1, samples=300, samples_per_shard=120)
    return found


def test_a_dataset_trains_like_the_samples_that_it_was_made_of(scratch, tiny):
    """TINY makes its 200 samples with the same seed; the dataset has 100 more."""
    run = train("localization", TINY | {"dataset": "alps"}, scratch.parent)
    assert torch.equal(weights(run), weights(tiny))


def test_extending_a_dataset_changes_no_training_on_its_first_samples(scratch):
    def fingerprint():
        recipe = Recipe(Config(**TINY, dataset="alps"), scratch)
        return recipe.fingerprint(recipe.training_samples(), recipe.validation_samples())

    before = fingerprint()
    dataset.generate(scratch / "datasets" / "alps", RadioSettings(), 1, samples=500, samples_per_shard=120)
    assert fingerprint() == before


def test_a_dataset_that_is_too_small_or_missing_is_refused_with_a_sentence(scratch):
    with pytest.raises(dataset.UnreadableDataset, match="has 300 samples; samples asks for 400"):
        Scene.of(Config(**TINY | {"samples": 400}, dataset="alps"), scratch)
    with pytest.raises(dataset.UnreadableDataset, match="no dataset"):
        Scene.of(Config(**TINY, dataset="andes"), scratch)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"dataset": "alps", "sync_jitter_ns": 30.0}, "sync_jitter_ns"),
        ({"dataset": "alps", "data_seed": 3}, "data_seed"),
        ({"dataset": "../etc"}, "dataset"),
        ({"width": 30, "heads": 4}, "width"),
        ({"test_split": 0.5, "validation_split": 0.5}, "test_split"),
        ({"samples": 2_000_000}, "samples"),
        ({"min_receivers": 9}, "min_receivers"),
        ({"path_loss": "okumura_hata"}, "path_loss"),
        ({"receivers": []}, "receivers"),
        ({"receivers": [one.model_dump() for one in NORTHERN_ITALY[:2]] * 2}, "receivers"),
        ({"frequency_mhz": 5000.0}, "frequency_mhz"),
    ],
)
def test_an_impossible_config_is_refused_and_says_which_field(raw, field):
    with pytest.raises(InvalidConfig) as refused:
        registry.validate("localization", raw)
    assert list(refused.value.fields) == [field]


def test_a_config_with_other_receivers_is_accepted():
    receivers = [one.model_dump() for one in NORTHERN_ITALY[:4]]
    assert registry.validate("localization", {"receivers": receivers})["receivers"] == receivers


@pytest.mark.parametrize("name", ["localization", "rf_dataset"])
def test_memory_grows_with_what_the_config_asks_for(name):
    info = registry.get(name)
    small = info.estimate_memory_bytes(registry.validate(name, {"samples": 1000}))
    more = {"samples": 500_000, **({"samples_per_shard": 500_000} if name == "rf_dataset" else {})}
    assert small < info.estimate_memory_bytes(registry.validate(name, more))
