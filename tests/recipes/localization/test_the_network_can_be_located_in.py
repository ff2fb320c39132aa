"""Geometry, dilution of precision and the Cramer-Rao bounds of the default network, against measured
values."""

import numpy as np
import pytest

from heimdall.recipes.localization import bounds
from heimdall.recipes.localization.geometry import Network, dilution
from heimdall.recipes.localization.settings import RadioSettings, Receiver

ALTITUDE = {"ground_altitude_m": 0.0, "transmitter_height_m": 1.0}


@pytest.fixture(scope="module")
def network():
    return Network.of(RadioSettings(**ALTITUDE))


@pytest.fixture(scope="module")
def positions(network):
    low, high = network.box_km
    return np.random.default_rng(3).uniform(low, high, (20_000, 2))


@pytest.fixture(scope="module")
def links(network, positions):
    return network.links(positions)


@pytest.fixture(scope="module")
def all_heard(links):
    return np.ones(links.range_km.shape, bool)


def test_the_box_is_148_by_120_km(network):
    low, high = network.box_km
    assert high - low == pytest.approx([148, 120], abs=0.5)


def test_degrees_go_to_the_plane_and_back(network):
    there = network.to_plane(network.latitudes, network.longitudes)
    back = network.to_degrees(there)
    assert back == pytest.approx(np.stack([network.latitudes, network.longitudes], axis=1))


def test_a_range_is_the_hypotenuse_of_ground_and_height(network):
    above = network.links(network.positions_km)
    assert np.diag(above.range_km) == pytest.approx(np.abs(network.altitudes_m - 1.0) / 1000)


def test_dilution_is_as_measured_and_refuses_nothing_in_the_box(links, all_heard):
    """A filter at 5 must let the whole box pass; a wrong formula has values above 100 there."""
    found = dilution(links, all_heard)
    assert np.median(found.total) == pytest.approx(1.24, abs=0.02)
    assert np.median(found.horizontal) == pytest.approx(1.11, abs=0.02)
    assert found.total.max() < 5


def test_dilution_equals_the_matrix_formula(links, all_heard):
    east, north = links.directions
    rows = np.stack([east, north, np.ones_like(east)], axis=-1).transpose(1, 0, 2)[:500]
    inverse = np.linalg.inv(rows.transpose(0, 2, 1) @ rows)
    found = dilution(links, all_heard)
    assert found.total[:500] == pytest.approx(np.sqrt(np.trace(inverse, axis1=1, axis2=2)))
    assert found.horizontal[:500] == pytest.approx(np.sqrt(inverse[:, 0, 0] + inverse[:, 1, 1]))


def test_a_flat_network_cannot_see_height(network, links):
    east, north = links.directions
    up = -network.rises_km[:, None] / links.range_km
    rows = np.stack([east, north, up, np.ones_like(east)], axis=-1).transpose(1, 0, 2)
    inverse = np.linalg.inv(rows.transpose(0, 2, 1) @ rows)
    assert np.median(np.sqrt(np.trace(inverse, axis1=1, axis2=2))) == pytest.approx(182, abs=4)


def test_two_receivers_locate_nothing(links):
    heard = np.zeros(links.range_km.shape, bool)
    heard[:2] = True
    assert np.isinf(dilution(links, heard).total).all()
    assert np.isinf(
        bounds.bound_m(bounds.timing_information(links, np.full(heard.shape, 100.0), heard))
    ).all()


@pytest.mark.parametrize(("error_ns", "metres"), [(1000.0, 331), (100.0, 34), (30.0, 10)])
def test_the_timing_bound_is_as_measured(links, all_heard, error_ns, metres):
    found = bounds.bound_m(
        bounds.timing_information(links, np.full(links.range_km.shape, error_ns), all_heard)
    )
    assert np.median(found) == pytest.approx(metres, rel=0.03)


@pytest.mark.parametrize(("error_db", "kilometres"), [(4.5, 36), (1.0, 8.4)])
def test_the_strength_bound_is_as_measured(links, all_heard, error_db, kilometres):
    found = bounds.bound_m(bounds.strength_information(links, error_db, all_heard))
    assert np.median(found) / 1000 == pytest.approx(kilometres, rel=0.03)


def test_the_timing_bound_equals_that_of_differences_with_their_full_covariance(links, all_heard):
    errors = np.random.default_rng(4).uniform(50, 300, links.range_km.shape)
    found = bounds.bound_m(bounds.timing_information(links, errors, all_heard))
    km = errors * 299_792.458e-9
    for sample in range(20):
        directions = np.stack([direction[:, sample] for direction in links.directions], axis=1)
        differences = directions[1:] - directions[0]
        covariance = np.diag(km[1:, sample] ** 2) + km[0, sample] ** 2
        information = differences.T @ np.linalg.inv(covariance) @ differences
        assert found[sample] == pytest.approx(1000 * np.sqrt(np.trace(np.linalg.inv(information))))


def test_both_measurements_are_better_than_either(links, all_heard):
    timing = bounds.timing_information(links, np.full(links.range_km.shape, 10_000.0), all_heard)
    strength = bounds.strength_information(links, 1.0, all_heard)
    together = bounds.bound_m(bounds.both(timing, strength))
    assert (together < np.minimum(bounds.bound_m(timing), bounds.bound_m(strength))).all()


def test_a_known_power_helps_and_an_unknown_one_never_improves_on_it(links, all_heard):
    known = bounds.bound_m(bounds.strength_information(links, 4.5, all_heard, power_spread_db=0.0))
    roughly = bounds.bound_m(bounds.strength_information(links, 4.5, all_heard, power_spread_db=3.0))
    unknown = bounds.bound_m(bounds.strength_information(links, 4.5, all_heard, power_spread_db=1e6))
    assert (known <= roughly).all()
    assert (roughly <= unknown).all()


def test_always_answering_the_centroid_is_as_far_off_as_measured(network, positions):
    distances = np.linalg.norm(positions - network.positions_km.mean(axis=0), axis=1)
    assert distances.mean() == pytest.approx(51.5, abs=0.5)


def test_the_network_may_be_another_one():
    triangle = tuple(
        Receiver(name=name, latitude=latitude, longitude=longitude, altitude_m=10.0)
        for name, latitude, longitude in (("A", -33.0, 151.0), ("B", -33.5, 151.2), ("C", -33.2, 151.9))
    )
    network = Network.of(RadioSettings(receivers=triangle))
    found = dilution(network.links(network.positions_km.mean(axis=0)[None]), np.ones((3, 1), bool))
    assert 1 < found.total[0] < 5
