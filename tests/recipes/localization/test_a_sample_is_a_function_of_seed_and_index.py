import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall.recipes.localization import counter, generator
from heimdall.recipes.localization.dataset import split_of
from heimdall.recipes.localization.generator import FIELDS, Generator, TooStrict
from heimdall.recipes.localization.random_networks import samples_of
from heimdall.recipes.localization.settings import (
    DRAWN_FIELDS,
    NORTHERN_ITALY,
    RadioSettings,
    Receiver,
)

EVERYTHING = RadioSettings(antennas=True, late_arrivals=True, path_loss="okumura_hata", frequency_mhz=433.0)
COUNT = 600


@pytest.fixture(scope="module")
def whole():
    return Generator(EVERYTHING, 11).samples(0, COUNT)


def same(first, second):
    return all(np.array_equal(first[name], second[name]) for name in FIELDS)


@pytest.mark.parametrize(
    ("count", "key", "words"),
    [
        (0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0xFFFFFFFF, 0xFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_the_counter_based_generator_gives_the_published_numbers(count, key, words):
    """Known answers of Random123, philox4x32-10."""
    found = counter.philox(tuple(np.array([count], np.uint64) for _ in range(4)), (key, key))
    assert tuple(int(word[0]) for word in found) == words


def test_the_generator_gives_the_published_numbers_for_unequal_words():
    words = [np.array([word], np.uint64) for word in (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)]
    found = counter.philox(tuple(words), (0xA4093822, 0x299F31D0))
    assert [int(word[0]) for word in found] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=40))
def test_any_choice_in_any_order_gives_the_same_samples(whole, indices):
    """Those that the filters refused at first, too."""
    found = Generator(EVERYTHING, 11).take(np.array(indices)).arrays
    assert same(found, {name: whole.arrays[name][indices] for name in FIELDS})


def test_the_size_of_a_block_changes_nothing(whole, monkeypatch):
    monkeypatch.setattr(generator, "BLOCK", 7)
    again = Generator(EVERYTHING, 11).samples(0, COUNT)
    assert same(again.arrays, whole.arrays)
    assert again.refused == whole.refused


def test_refused_samples_are_counted_alike_in_one_piece_and_in_several(whole):
    pieces = [Generator(EVERYTHING, 11).samples(start, start + 200).refused for start in range(0, COUNT, 200)]
    assert sum(whole.refused.values()) > 0
    assert {reason: sum(piece[reason] for piece in pieces) for reason in whole.refused} == whole.refused


def test_global_random_state_plays_no_part(whole):
    np.random.seed(5)
    first = Generator(EVERYTHING, 11).samples(0, 50).arrays
    assert same(first, {name: values[:50] for name, values in whole.arrays.items()})


def test_every_seed_counts_zero_too():
    found = {
        seed: Generator(RadioSettings(), seed).samples(0, 20).arrays["position_km"] for seed in (0, 1, 2**32)
    }
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2**32])
    assert np.array_equal(found[0], Generator(RadioSettings(), 0).samples(0, 20).arrays["position_km"])


def test_samples_far_along_are_samples_of_their_own():
    far = Generator(RadioSettings(), 0).samples(2**33, 2**33 + 5).arrays["position_km"]
    near = Generator(RadioSettings(), 0).samples(0, 5).arrays["position_km"]
    assert len(np.unique(np.concatenate([far, near]), axis=0)) == 10


def test_a_receiver_is_the_same_in_every_dataset():
    def floors(seed):
        arrays = Generator(RadioSettings(), seed).samples(0, 50).arrays
        noise = np.where(arrays["detected"], arrays["rss_dbm"] - arrays["snr_db"], np.nan)
        return np.nanmean(noise, axis=0)

    assert floors(1) == pytest.approx(floors(2), abs=1e-4)
    assert (np.abs(floors(1) + 122.5) < 2.6).all()


def test_the_split_goes_by_the_index_alone():
    few = split_of(np.arange(1000), validation=0.1, test=0.1)
    many = split_of(np.arange(100_000), validation=0.1, test=0.1)
    assert np.array_equal(few, many[:1000])
    assert np.bincount(many) / 100_000 == pytest.approx([0.8, 0.1, 0.1], abs=0.005)
    # The test part does not depend on how much is kept for validation.
    assert np.array_equal(split_of(np.arange(1000), validation=0.3, test=0.1) == 2, few == 2)


def test_at_least_twenty_thousand_samples_a_second_on_one_core():
    made = Generator(RadioSettings(), 1)
    made.samples(0, 2000)
    start = time.process_time()
    made.samples(0, 20_000)
    assert time.process_time() - start < 1.0


def test_filters_that_let_nothing_pass_are_refused_with_the_reasons():
    with pytest.raises(TooStrict, match=r"refused 500 tries of sample 0.*too weak: [1-9]"):
        Generator(
            RadioSettings(min_snr_db=60.0, min_receivers=7, power_dbm=-10.0, detection_snr_db=-30.0), 1
        ).samples(0, 10)


@pytest.fixture(scope="module")
def usual():
    return Generator(RadioSettings(), 1).samples(0, 6000).arrays


def test_seven_in_ten_transmitters_are_inside_the_box(usual):
    low, high = Generator(RadioSettings(), 1).network.box_km
    positions = usual["position_km"]
    inside = ((positions >= low) & (positions <= high)).all(axis=1)
    assert inside.mean() == pytest.approx(0.7, abs=0.03)
    frame = Generator(RadioSettings(), 1).network.frame_km(0.5)
    assert (positions >= low - frame).all()
    assert (positions <= high + frame).all()
    for axis in (0, 1):
        assert (positions[:, axis] < low[axis]).any()
        assert (positions[:, axis] > high[axis]).any()


def test_every_sample_passes_the_filters(usual):
    detected = usual["detected"]
    assert (detected.sum(axis=1) >= 3).all()
    assert (usual["snr_db"][detected] >= 3).all()
    assert (usual["dilution"] <= 50).all()
    assert np.isfinite(usual["bound_m"]).all()
    for name in ("snr_db", "rss_dbm", "arrival_ns", "error_ns", "late_ns", "frequency_offset_hz"):
        assert (usual[name][~detected] == 0).all()


def test_a_transmitter_has_one_power_which_varies_by_three_decibels(usual):
    """Two receivers hear one power: what they receive differs by the path, whatever was sent."""
    assert usual["power_dbm"].mean() == pytest.approx(37.0, abs=0.15)
    assert usual["power_dbm"].std() == pytest.approx(3.0, abs=0.1)
    fixed = Generator(RadioSettings(power_spread_db=0.0), 1).samples(0, 500).arrays
    shared = usual["detected"][:500] & fixed["detected"]
    louder = np.where(shared, usual["rss_dbm"][:500] - fixed["rss_dbm"], np.nan)
    same_try = (usual["position_km"][:500] == fixed["position_km"]).all(axis=1)
    sent = usual["power_dbm"][:500, None] - 37.0
    assert np.nanmax(np.abs(louder - sent)[same_try]) < 1e-3


def test_arrivals_are_counted_from_the_strongest_receiver(usual):
    rows = np.arange(len(usual["reference"]))
    assert (usual["arrival_ns"][rows, usual["reference"]] == 0).all()
    strongest = np.argmax(np.where(usual["detected"], usual["snr_db"], -np.inf), axis=1)
    assert np.array_equal(strongest, usual["reference"])


def test_arrivals_scatter_round_the_true_ranges_as_they_say(usual):
    network = Generator(RadioSettings(), 1).network
    ranges_ns = network.links(usual["position_km"]).range_km.T / 299_792.458e-9
    rows, reference = np.arange(len(ranges_ns)), usual["reference"]
    off = usual["arrival_ns"] - (ranges_ns - ranges_ns[rows, reference][:, None])
    expected = np.hypot(usual["error_ns"], usual["error_ns"][rows, reference][:, None])
    others = usual["detected"].copy()
    others[rows, reference] = False
    scaled = off[others] / expected[others]
    assert scaled.mean() == pytest.approx(0, abs=0.05)
    assert scaled.std() == pytest.approx(1, abs=0.03)


def test_late_arrivals_come_on_obstructed_links_only():
    arrays = Generator(RadioSettings(late_arrivals=True), 1).samples(0, 6000).arrays
    obstructed = arrays["obstructed"]
    assert obstructed.any()
    assert (arrays["late_ns"][~obstructed] == 0).all()
    late = arrays["late_ns"][obstructed]
    assert late.mean() == pytest.approx(300, rel=0.05)
    assert late.std() == pytest.approx(300, rel=0.07)


def test_the_bound_of_late_arrivals_is_the_one_without_them(usual):
    late = Generator(RadioSettings(late_arrivals=True), 1).samples(0, 6000).arrays
    assert np.array_equal(late["bound_m"], usual["bound_m"])


CHANGED = {
    "receivers": (
        *NORTHERN_ITALY[:6],
        Receiver(name="Milano", latitude=45.4, longitude=9.2, altitude_m=120.0),
    ),
    "networks": "random",
    "fewest_receivers": 6,
    "most_receivers": 9,
    "narrowest_km": 100.0,
    "widest_km": 120.0,
    "frequency_mhz": 433.0,
    "bandwidth_khz": 25.0,
    "power_dbm": 30.0,
    "power_spread_db": 1.0,
    "ground_altitude_m": 100.0,
    "transmitter_height_m": 30.0,
    "outside_share": 0.0,
    "outside_degrees": 0.2,
    "path_loss": "free_space",
    "shadowing_db": 0.0,
    "shadowing_distance_km": 100.0,
    "obstacle_mean_m": 0.0,
    "obstacle_spread_m": 10.0,
    "obstacle_correlation": 1.0,
    "fading": False,
    "antennas": True,
    "detection_snr_db": 10.0,
    "oscillator_ppm": 5.0,
    "sync_jitter_ns": 30.0,
    "integration_s": 0.01,
    "late_arrivals": True,
    "late_mean_ns": 900.0,
    "min_receivers": 6,
    "min_snr_db": 20.0,
    "max_dilution": 3.0,
}


@pytest.mark.parametrize("name", RadioSettings.model_fields)
def test_no_setting_is_accepted_and_ignored(name):
    base = {"late_arrivals": True} if name == "late_mean_ns" else {}
    base |= {"networks": "random"} if name in DRAWN_FIELDS else {}
    before = samples_of(RadioSettings(**base), 3).samples(0, 300).arrays
    after = samples_of(RadioSettings(**base, **{name: CHANGED[name]}), 3).samples(0, 300).arrays
    assert not same(before, after)
