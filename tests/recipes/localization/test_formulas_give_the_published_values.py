"""Published values and limits of each formula; every mistake of an earlier system would be noticed here."""

import numpy as np
import pytest

from heimdall.recipes.localization import propagation as p
from heimdall.recipes.localization.antennas import Antennas
from heimdall.recipes.localization.measurement import noise_floor_dbm, timing_error_ns

VHF = 145.0


def test_free_space_loss_is_that_of_p525():
    assert p.free_space_loss(1.0, np.array(1.0)) == pytest.approx(32.44)
    assert p.free_space_loss(VHF, np.array(80.0)) == pytest.approx(113.73, abs=0.01)
    # Exact physics: 20 log(4 pi d / lambda), which the published constant rounds.
    exact = 20 * np.log10(4 * np.pi * 80_000 / p.wavelength_m(VHF))
    assert p.free_space_loss(VHF, np.array(80.0)) == pytest.approx(exact, abs=0.02)


def test_twice_the_distance_costs_six_decibels_in_free_space():
    near, far = p.free_space_loss(VHF, np.array([10.0, 20.0]))
    assert far - near == pytest.approx(6.02, abs=0.01)


def test_the_exponent_two_is_free_space_and_others_grow_from_one_kilometre():
    distances = np.array([0.1, 1.0, 10.0, 150.0])
    free = p.free_space_loss(VHF, distances)
    assert p.log_distance_loss(VHF, distances, np.full(4, 2.0)) == pytest.approx(free)
    steep = p.log_distance_loss(VHF, distances, np.full(4, 3.5))
    assert steep - free == pytest.approx([0, 0, 15, 15 * np.log10(150)])


def test_okumura_hata_gives_the_textbook_value():
    # 900 MHz, base 30 m, mobile 1.5 m, 1 km: 126.4 dB, 35.2 dB more for each factor of ten.
    loss = p.okumura_hata_loss(900.0, np.array([1.0, 10.0]), np.array(30.0), 1.5)
    assert loss == pytest.approx([126.4, 161.6], abs=0.1)


@pytest.mark.parametrize(
    ("distance", "base", "mobile", "holds"),
    [(1, 30, 1, True), (20, 200, 10, True), (0.9, 50, 5, False), (21, 50, 5, False), (5, 29, 5, False),
     (5, 201, 5, False), (5, 50, 11, False)],
)  # fmt: skip
def test_okumura_hata_is_used_in_its_range_only(distance, base, mobile, holds):
    assert p.okumura_hata_holds(np.array(distance), np.array(base), mobile) == holds


def test_the_first_fresnel_zone_is_as_wide_as_published():
    # Kilometres taken for metres would give 5.1 m.
    assert p.first_fresnel_radius_m(VHF, np.array(25.0), np.array(25.0)) == pytest.approx(160.8, abs=0.05)


@pytest.mark.parametrize(("height", "loss"), [(-60.0, 1.75), (60.0, 10.5), (0.0, 6.03)])
def test_knife_edge_costs_what_is_published(height, loss):
    """An inverted sign would swap the first two."""
    nu = p.knife_edge_parameter(VHF, np.array(height), np.array(25.0), np.array(25.0))
    assert p.knife_edge_loss(nu) == pytest.approx(loss, abs=0.05)


def test_knife_edge_loss_starts_at_zero_and_only_grows():
    nu = np.linspace(-3.0, 10.0, 2001)
    loss = p.knife_edge_loss(nu)
    assert (loss[nu <= -0.78] == 0).all()
    assert (np.diff(loss) >= 0).all()
    assert loss[nu > -0.78][0] < 0.1
    # Far behind the edge it is 13 + 20 log nu (P.526).
    assert p.knife_edge_loss(np.array(10.0)) == pytest.approx(13.0 + 20.0, abs=0.2)


def test_the_radio_horizon_is_where_a_smooth_earth_touches_the_line_of_sight():
    first, second = 210.0, 600.0
    horizon = p.radio_horizon_km(first, second)
    assert horizon == pytest.approx(4.12 * (np.sqrt(210) + np.sqrt(600)))
    shares = np.linspace(0.01, 0.99, 9801)
    clearance = p.smooth_earth_over_sight_m(horizon, shares, first, second).max()
    assert clearance == pytest.approx(0.0, abs=1.0)
    assert p.smooth_earth_over_sight_m(0.9 * horizon, shares, first, second).max() < -10
    assert p.smooth_earth_over_sight_m(1.1 * horizon, shares, first, second).max() > 10


def test_the_earth_bulges_by_the_known_amount():
    # 50 km path, midpoint, 4/3 earth: 36.8 m.
    assert p.earth_bulge_m(np.array(25.0), np.array(25.0)) == pytest.approx(36.8, abs=0.05)


@pytest.mark.parametrize("rician_k", [0.0, 4.0, 10.0])
def test_fading_has_unit_mean_power(rician_k):
    """A Rayleigh channel of mean power 2 would be 3 dB too strong."""
    real, imaginary = np.random.default_rng(1).standard_normal((2, 400_000))
    power = p.fading_power(np.array(rician_k), real, imaginary)
    assert power.mean() == pytest.approx(1.0, abs=0.01)
    # Var = (1 + 2 K) / (1 + K)^2
    assert power.var() == pytest.approx((1 + 2 * rician_k) / (1 + rician_k) ** 2, rel=0.02)


def test_fading_vanishes_for_a_steady_channel():
    power = p.fading_power(np.array(1e12), np.array([-2.0, 3.0]), np.array([2.0, -3.0]))
    assert power == pytest.approx([1.0, 1.0], abs=1e-4)


def test_decibels_go_there_and_back_down_to_the_noise_of_one_hertz():
    """Adding a picowatt to every power would make -90 dBm of anything weaker: 20 dB of SNR would read -10
    dB."""
    levels = np.array([-174.0, -133.0, -113.0, 0.0, 60.0])
    assert p.to_db(p.from_db(levels)) == pytest.approx(levels)


def test_the_noise_floor_is_ktb_and_the_noise_figure():
    assert noise_floor_dbm(12.5, 0.0) == pytest.approx(-133.0, abs=0.05)
    assert noise_floor_dbm(12.5, 10.0) == pytest.approx(-123.0, abs=0.05)
    assert noise_floor_dbm(0.001, 0.0) == pytest.approx(-174.0, abs=0.05)


@pytest.mark.parametrize(
    ("snr", "seconds", "error"), [(20.0, 1.0, 39.0), (3.0, 1.0, 280.0), (20.0, 0.01, 394.0)]
)
def test_timing_errors_are_as_published(snr, seconds, error):
    found = timing_error_ns(np.array(snr), bandwidth_khz=12.5, integration_s=seconds, sync_jitter_ns=0.0)
    assert found == pytest.approx(error, rel=0.015)


def test_clock_jitter_and_noise_add_as_squares():
    found = timing_error_ns(
        np.array([20.0, 200.0]), bandwidth_khz=12.5, integration_s=1.0, sync_jitter_ns=100.0
    )
    assert found == pytest.approx([np.hypot(100.0, 39.42), 100.0], abs=0.05)


def test_shadowing_is_correlated_by_distance():
    positions = np.array([[0.0, 0.0], [10.0, 0.0], [200.0, 0.0]])
    root = p.shadowing_root(positions, 10.0)
    independent = np.random.default_rng(2).standard_normal((3, 200_000))
    correlation = np.corrcoef(p.correlate(root, independent))
    assert correlation[0, 1] == pytest.approx(np.exp(-1), abs=0.01)
    assert correlation[0, 2] == pytest.approx(0.0, abs=0.01)
    assert p.correlate(root, independent).std(axis=1) == pytest.approx([1, 1, 1], abs=0.01)


def test_a_yagi_loses_three_decibels_at_half_its_beam_and_a_whip_nothing():
    antennas = Antennas(np.array([12.0, 1.0]), np.array([40.0, np.inf]), np.array([350.0, 0.0]))
    yagi, whip = antennas.towards(np.array([[350.0, 10.0, 330.0, 170.0]] * 2))
    assert yagi == pytest.approx([12.0, 9.0, 9.0, -8.0])
    assert whip == pytest.approx([1.0] * 4)
