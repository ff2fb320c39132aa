"""Samples of networks that are drawn at random: which, for whom, and what is trained on them answers elsewhere."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from heimdall import codec
from heimdall.recipes import registry
from heimdall.recipes.localization import baselines, dataset, evaluate, unseen
from heimdall.recipes.localization.generator import TooStrict
from heimdall.recipes.localization.locating import reports
from heimdall.recipes.localization.locating.locator import Locator
from heimdall.recipes.localization.random_networks import SAMPLES_EACH, RandomNetworks, networks_in
from heimdall.recipes.localization.settings import RadioSettings
from tests.recipes.in_process import train
from tests.support.radio_reports import ITALY, lines, metres_off, table

torch.set_num_threads(1)

RANDOM = RadioSettings(networks="random")
FEW = RadioSettings(
    networks="random", fewest_receivers=4, most_receivers=6, narrowest_km=80.0, widest_km=120.0
)


@pytest.fixture(scope="module")
def arrays():
    return RandomNetworks(RANDOM, 3).samples(0, 40 * SAMPLES_EACH).arrays


def test_any_choice_in_any_order_gives_the_same_samples(arrays):
    chosen = np.array([77, 3, 900, 31, 32])
    found = RandomNetworks(RANDOM, 3).take(chosen).arrays
    assert all(np.array_equal(found[name], arrays[name][chosen]) for name in arrays)
    other = RandomNetworks(RANDOM, 4).take(chosen).arrays
    assert not np.array_equal(other["east_km"], found["east_km"])


def test_every_32_samples_have_a_network_of_their_own_of_3_to_15_receivers(arrays):
    networks = networks_in(RANDOM, arrays)
    assert [len(chosen) for _, chosen in networks] == [SAMPLES_EACH] * 40
    assert {len(set(chosen // SAMPLES_EACH)) for _, chosen in networks} == {1}
    sizes = [network.size for network, _ in networks]
    assert min(sizes) < 6
    assert max(sizes) > 12
    for network, chosen in networks:
        assert not arrays["detected"][chosen][:, network.size :].any()
        assert np.ptp(network.positions_km, axis=0).max() <= 350


def test_receivers_are_as_many_and_stand_as_far_apart_as_the_settings_say():
    arrays = RandomNetworks(FEW, 1).samples(0, 30 * SAMPLES_EACH).arrays
    networks = [network for network, _ in networks_in(FEW, arrays)]
    assert {network.size for network in networks} == {4, 5, 6}
    assert max(np.ptp(network.positions_km, axis=0).max() for network in networks) <= 120
    heights = np.concatenate([network.altitudes_m for network in networks])
    assert 100 <= heights.min() < heights.max() <= 700


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"most_receivers": 9}, 'set networks to "random" with it'),
        ({"networks": "random", "fewest_receivers": 9, "most_receivers": 8}, "at most most_receivers"),
        ({"networks": "random", "narrowest_km": 90, "widest_km": 80}, "at most widest_km"),
        ({"networks": "random", "min_receivers": 4}, "at most fewest_receivers"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields, says):
    with pytest.raises(ValidationError, match=says):
        RadioSettings(**fields)


def test_networks_that_locate_nothing_are_drawn_again_and_in_the_end_refused():
    strict = RANDOM.model_copy(update={"detection_snr_db": 60.0, "power_dbm": -30.0})
    with pytest.raises(TooStrict, match="next to no station"):
        RandomNetworks(strict, 1).samples(0, 1)


def test_a_dataset_of_them_is_read_as_it_was_written_and_older_ones_are_the_same_scenes(tmp_path):
    made = dataset.generate(tmp_path, FEW, 9, samples=300, samples_per_shard=100)
    found = dataset.read(tmp_path, dataset.read_manifest(tmp_path))
    straight = RandomNetworks(FEW, 9).samples(0, 300).arrays
    assert all(np.array_equal(found[name], straight[name]) for name in straight)
    assert made.settings == FEW
    # As the version before networks were drawn named it.
    digest = "f2339b01dba6620b204912704cb5bf83f5e1bda75cc9cdea4129fab1e81ab717"
    assert dataset.scene_of(RadioSettings(), 1) == digest
    assert dataset.scene_of(FEW, 1) != digest
    fixed = dataset.generate(tmp_path / "fixed", RadioSettings(), 9, samples=100, samples_per_shard=100)
    assert "networks" not in json.loads(fixed.as_json())["config"]


def test_the_classical_methods_know_each_sample_by_its_own_network(arrays):
    careful = evaluate.of_each_network(baselines.gauss_newton_on_timing, RANDOM, arrays)
    generator = RandomNetworks(RANDOM, 3).of_number(7)
    own = generator.samples(7 * SAMPLES_EACH, 8 * SAMPLES_EACH).arrays
    wanted = baselines.gauss_newton_on_timing(generator.network, own).positions_km
    found = careful.positions_km[7 * SAMPLES_EACH : 8 * SAMPLES_EACH]
    assert np.median(np.linalg.norm(found - wanted, axis=1)) < 1e-4  # places are kept to a centimetre
    errors = np.linalg.norm(careful.positions_km - arrays["position_km"], axis=1)
    assert 1000 * np.median(errors) < 60


CONFIG = {
    "networks": "random", "samples": 2400, "epochs": 2, "batch_size": 128, "learning_rate": 0.004, "width": 16,
    "heads": 2, "layers": 1, "dropout": 0.0, "refinements": 1, "checkpoint_every_minutes": 0.0, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train("localization", CONFIG, tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    config = registry.validate("localization", CONFIG)
    about = {"recipe": evaluate.PACKAGE, "config": config, "epoch": 2, "step": 1}
    place = tmp_path_factory.mktemp("trained") / "drawn.safetensors"
    codec.save(place, run.parts, about)
    return evaluate.open_checkpoint(place)


def test_a_training_on_them_is_evaluated_and_shows_no_receivers(run, trained):
    shown = run.of("epoch")[-1].artifact
    assert (shown["networks"], shown["receivers"]) == ("random", [])
    fresh = evaluate.fresh_samples(trained.settings, seed=8, samples=320)
    found = evaluate.evaluate(trained.network, trained.settings, fresh, calibration=trained.calibration)
    rows = {row.name: row.score for row in found.rows}
    assert rows["network"].p50_m < 100
    assert rows[evaluate.CAREFUL].p50_m < 100


def test_networks_that_were_not_trained_are_measured_beside_the_classical_method_and_the_reference(trained):
    rows = list(unseen.rows(trained, 4, layouts=1, samples=60, kinds=((5, 170.0), (7, 55.0))))
    assert [row.name for row in rows] == ["5 others, within 170 km", "7 others, within 55 km"]
    for row in rows:
        assert row.network.samples == row.classical.samples == 60
        assert len(row.reference_m) == 2
    text = unseen.table_of(rows)
    assert text.splitlines()[2].startswith("| 5 others, within 170 km | ")
    assert text.count("\n") == 3
    assert "over its p95" in text.splitlines()[0]


def test_an_answer_says_that_its_network_was_trained_with_others_and_what_was_measured(trained):
    sent = (44.9, 8.3, 205.0)
    seven = list(ITALY.values())
    raw = table(lines("seven", sent, seven), lines("three", sent, seven[3:6]))
    found = list(Locator(trained).locate(reports.read(raw, trained.settings)))
    assert "networks drawn at random, of 3 to 15 receivers within 50 to 350 km" in found[0]["notes"][0]
    assert "was not measured" in found[0]["notes"][0]
    assert found[0]["by"] == "network"
    assert metres_off(found[0], sent) < 60
    assert found[1]["by"] in {"classical", None}
