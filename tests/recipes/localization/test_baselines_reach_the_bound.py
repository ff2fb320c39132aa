import numpy as np
import pytest

from heimdall.recipes.localization import baselines, score
from heimdall.recipes.localization.generator import Generator
from heimdall.recipes.localization.settings import RadioSettings

TIMING_ONLY = {
    "fading": False,
    "shadowing_db": 0.0,
    "power_dbm": 60.0,
    "outside_share": 0.0,
    "max_dilution": 5.0,
}


def scored(estimates, arrays):
    return score.score(
        estimates.positions_km, estimates.covariances_km2, arrays["position_km"], arrays["bound_m"]
    )


@pytest.fixture(scope="module")
def usual():
    made = Generator(RadioSettings(), 5)
    return made.network, made.samples(0, 3000).arrays


def test_the_covariance_of_gauss_newton_approaches_the_bound_at_high_snr():
    """Errors whitened by the bound have the covariance 1, and the root mean square error is the bound's.

    Close to a receiver two hyperbolas may cross twice, and once in 3000 the wrong crossing is taken; not
    here.
    """
    made = Generator(RadioSettings(**TIMING_ONLY), 6)
    arrays = made.samples(0, 8000).arrays
    apart = made.network.links(arrays["position_km"]).ground_km.min(axis=0) > 10.0
    arrays = {name: values[apart] for name, values in arrays.items()}
    found = baselines.gauss_newton_on_timing(made.network, arrays)
    errors = found.positions_km - arrays["position_km"]
    roots = np.linalg.cholesky(found.covariances_km2)
    whitened = np.linalg.solve(roots, errors[..., None])[..., 0]
    assert np.cov(whitened.T) == pytest.approx(np.eye(2), abs=0.06)
    assert 1000 * np.sqrt((errors**2).sum(axis=1).mean()) == pytest.approx(
        np.sqrt((arrays["bound_m"] ** 2).mean()), rel=0.04
    )
    stated = 1000 * np.sqrt(np.trace(found.covariances_km2, axis1=1, axis2=2))
    assert stated == pytest.approx(arrays["bound_m"], rel=0.03)


def test_gauss_newton_scores_as_a_perfect_estimator_and_tells_its_uncertainty(usual):
    network, arrays = usual
    found = scored(baselines.gauss_newton_on_timing(network, arrays), arrays)
    assert found.score == pytest.approx(0.83, abs=0.05)
    assert found.coverage_68 == pytest.approx(0.68, abs=0.03)
    assert found.coverage_95 == pytest.approx(0.95, abs=0.03)


def test_late_arrivals_lead_gauss_newton_astray(usual):
    network, punctual = usual
    late = Generator(RadioSettings(late_arrivals=True), 5).samples(0, 3000).arrays
    before = scored(baselines.gauss_newton_on_timing(network, punctual), punctual)
    after = scored(baselines.gauss_newton_on_timing(network, late), late)
    assert after.p95_m > 1.5 * before.p95_m
    assert after.coverage_95 < 0.8


def test_strength_alone_is_a_thousand_times_worse_than_timing_but_better_than_the_centroid(usual):
    network, arrays = usual
    strength = scored(baselines.levenberg_marquardt_on_strength(RadioSettings(), network, arrays), arrays)
    middle = scored(baselines.centroid(network, arrays), arrays)
    assert 20_000 < strength.p50_m < middle.p50_m


def test_strength_finds_the_transmitter_where_it_falls_by_the_book():
    settings = RadioSettings(
        path_loss="free_space", fading=False, shadowing_db=0.0, obstacle_mean_m=-1000.0, power_dbm=60.0,
        power_spread_db=0.0, outside_share=0.0, ground_altitude_m=4000.0, transmitter_height_m=500.0,
    )  # fmt: skip
    made = Generator(settings, 7)
    arrays = made.samples(0, 500).arrays
    found = baselines.levenberg_marquardt_on_strength(settings, made.network, arrays)
    errors = np.linalg.norm(found.positions_km - arrays["position_km"], axis=1)
    assert np.median(errors) < 0.5


def test_an_estimate_does_not_depend_on_its_neighbours(usual):
    network, arrays = usual
    few = {name: values[100:103] for name, values in arrays.items()}
    alone = baselines.gauss_newton_on_timing(network, few).positions_km
    assert np.array_equal(alone, baselines.gauss_newton_on_timing(network, arrays).positions_km[100:103])


def test_the_score_of_a_perfect_circular_estimator_is_known():
    generator = np.random.default_rng(8)
    errors = generator.standard_normal((200_000, 2)) * 0.05
    covariances = np.tile(np.eye(2) * 0.05**2, (len(errors), 1, 1))
    bounds = np.full(len(errors), 1000 * 0.05 * np.sqrt(2))
    found = score.score(errors, covariances, np.zeros_like(errors), bounds)
    assert found.score == pytest.approx(np.sqrt(np.log(2)), abs=0.005)  # 0.8326
    assert found.rmse_m == pytest.approx(70.7, abs=0.3)
    assert (found.coverage_68, found.coverage_95) == pytest.approx((0.68, 0.95), abs=0.005)
    assert found.p50_m < found.p68_m < found.p95_m


def test_distances_are_metres_and_ellipses_know_their_axes():
    """Kilometres logged as metres would be a thousand times too small."""
    covariances = np.array([[[4.0, 1.9], [1.9, 1.0]]] * 2)
    errors = np.array([[2.0, 1.0], [2.0, -1.0]])
    found = score.score(errors, covariances, np.zeros((2, 2)), np.array([1000.0, 1000.0]))
    assert found.rmse_m == pytest.approx(1000 * np.sqrt(5))
    inside, across = score.mahalanobis_squared(errors, covariances, np.zeros((2, 2)))
    assert inside == pytest.approx(errors[0] @ np.linalg.inv(covariances[0]) @ errors[0])
    assert inside < score.ellipse_radius_squared(0.68) < score.ellipse_radius_squared(0.95) < across
    assert score.ellipse_radius_squared(0.95) == pytest.approx(5.9915, abs=1e-4)
