"""Stations that few receivers hear have ellipses of a size of their own, from samples that are drawn for it."""

import json

import numpy as np
import pytest

from heimdall.recipes.localization import drawn
from heimdall.recipes.localization.calibration import Calibration, Distances
from heimdall.recipes.localization.generator import Generator
from heimdall.recipes.localization.score import ellipse_radius_squared
from heimdall.recipes.localization.settings import RadioSettings


def distances(count: int, *, seed: int) -> Distances:
    """Of a Gaussian; those of four receivers are twice as far off as stated. One station in twenty is of these."""
    random = np.random.default_rng(seed)
    heard = np.where(random.random(count) < 0.05, 4, 7)
    scale = np.where(heard == 4, 2.0, 1.0)
    return Distances(((scale[:, None] * random.standard_normal((count, 2))) ** 2).sum(axis=1), heard)


def test_each_number_of_receivers_is_covered_as_said_where_one_size_for_all_is_not():
    calibration = Calibration()
    calibration.fit(distances(20_000, seed=1))
    fresh = distances(40_000, seed=2)
    for share in (0.68, 0.95):
        for number in (4, 7):
            some = fresh[fresh.heard == number].squared
            assert np.mean(some <= calibration.radius_squared(share, number)) == pytest.approx(
                share, abs=0.03
            )
        rare = fresh[fresh.heard == 4].squared
        assert np.mean(rare <= calibration.radius_squared(share)) < share - 0.15
        reach = calibration.reach_squared(share, fresh.heard)
        assert np.mean(fresh.squared <= reach) == pytest.approx(share, abs=0.015)


def test_drawn_samples_decide_where_the_validation_has_too_few():
    validation, more = distances(500, seed=1), distances(20_000, seed=3)
    alone, helped = Calibration(), Calibration()
    alone.fit(validation)
    helped.fit(validation, more[more.heard == 4])
    assert alone.radius_squared(0.68, 4) == alone.radius_squared(0.68, 7)  # some 25: the nearest number's
    assert helped.radius_squared(0.68, 4) == pytest.approx(4 * ellipse_radius_squared(0.68), rel=0.1)
    assert helped.radius_squared(0.68, 3) == helped.radius_squared(0.68, 4)
    assert helped.radius_squared(0.68, 15) == helped.radius_squared(0.68, 7)
    assert helped.radius_squared(0.68) == alone.radius_squared(0.68)


def test_numbers_that_are_rare_each_are_put_together():
    squared = np.arange(1.0, 401.0)
    calibration = Calibration()
    calibration.fit(Distances(squared, np.repeat([7, 6, 5, 4], [100, 100, 150, 50])))
    of_numbers = calibration.state_dict()["of_numbers"]
    assert [least for least, _ in of_numbers] == [4, 6]
    assert calibration.radius_squared(0.95, 7) == calibration.radius_squared(0.95, 6) <= 200
    assert calibration.radius_squared(0.95, 5) == calibration.radius_squared(0.95, 4) > 200


def test_sizes_come_back_as_they_were_saved_and_files_of_before_hold_one_for_all():
    calibration, again, before = Calibration(), Calibration(), Calibration()
    calibration.fit(distances(20_000, seed=1))
    state = json.loads(json.dumps(calibration.state_dict()))
    again.load_state_dict(state)
    assert again.state_dict() == calibration.state_dict()
    del state["of_numbers"]
    before.load_state_dict(state)
    assert (
        before.radius_squared(0.95, 4) == before.radius_squared(0.95, 7) == calibration.radius_squared(0.95)
    )


def test_as_many_of_each_number_are_drawn_as_there_are_and_none_is_of_a_dataset():
    settings = RadioSettings()
    found = drawn.drawn(settings, 5, 50)
    heard = np.bincount(found["detected"].sum(axis=1), minlength=8)
    assert list(heard[[5, 6, 7]]) == [50, 50, 50]
    assert 0 < heard[4] <= 50
    again = drawn.drawn(settings, 5, 50)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    known = Generator(settings, 5).samples(0, 3000).arrays["position_km"]
    assert not set(map(tuple, known)) & set(map(tuple, found["position_km"]))
    generator = Generator(settings, 5)
    first = generator.samples(drawn.FIRST_SAMPLE, drawn.FIRST_SAMPLE + 30).arrays
    assert np.array_equal(found["position_km"][:30], first["position_km"])
