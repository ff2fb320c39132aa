"""The network: any order, missing receivers, the loss in two dimensions, and the refinement's precision."""

import math

import numpy as np
import pytest
import torch

from heimdall.recipes.localization import baselines
from heimdall.recipes.localization.generator import Generator
from heimdall.recipes.localization.network import (
    Arrivals,
    Estimate,
    LocalizationNetwork,
    Reports,
    mahalanobis_squared,
    negative_log_likelihood,
    tempered_loss,
)
from heimdall.recipes.localization.recipe import RadioSamples
from heimdall.recipes.localization.settings import NORTHERN_ITALY, RadioSettings, Receiver

torch.set_num_threads(1)

SETTINGS = RadioSettings(late_arrivals=True)
SPARE = tuple(
    Receiver(name=f"spare {number}", latitude=44.5 + 0.11 * number, longitude=9.0 - 0.13 * number, altitude_m=300.0)
    for number in range(8)
)  # fmt: skip


def samples_of(settings: RadioSettings, count: int = 200) -> RadioSamples:
    made = Generator(settings, 4)
    return RadioSamples(made.network, made.samples(0, count).arrays)


def network_for(samples: RadioSamples, *, refinements: int = 2) -> LocalizationNetwork:
    torch.manual_seed(0)
    network = LocalizationNetwork(width=16, heads=2, layers=1, dropout=0.1, refinements=refinements)
    batch = samples.all()
    network.fit_normalisation(batch.reports, batch.truth)
    if network.refine is not None:  # as if it had learned something
        for weight in network.refine.judge.each.parameters():
            torch.nn.init.normal_(weight, std=0.05)
    return network.eval()


@pytest.fixture(scope="module")
def samples() -> RadioSamples:
    return samples_of(SETTINGS)


@pytest.fixture(scope="module")
def network(samples) -> LocalizationNetwork:
    return network_for(samples)


@torch.no_grad()
def test_the_order_of_the_receivers_is_of_no_account(network, samples):
    reports = samples.all().reports
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    shuffled = Reports(*(part[:, order] for part in reports))
    for given, other in zip(network(reports), network(shuffled), strict=True):
        assert torch.allclose(given.mean, other.mean, atol=1e-4)
        assert torch.allclose(given.root, other.root, atol=1e-3)


@torch.no_grad()
def test_a_receiver_that_detected_nothing_is_of_no_account(network, samples):
    reports = samples.all().reports
    silent = ~reports.detected
    assert silent.any()
    noise = torch.where(silent[..., None], 12345.0, reports.values)
    assert torch.equal(network(reports).refined.mean, network(reports._replace(values=noise)).refined.mean)
    alone = silent.sum(dim=1) == 1
    kept = [
        part[alone][reports.detected[alone]].reshape(int(alone.sum()), 6, *part.shape[2:]) for part in reports
    ]
    fewer = network(Reports(*kept)).refined.mean
    assert torch.allclose(network(reports).refined.mean[alone], fewer, atol=1e-4)


@pytest.mark.parametrize("receivers", [NORTHERN_ITALY[:3], (*NORTHERN_ITALY, *SPARE)], ids=len)
@torch.no_grad()
def test_it_takes_three_to_fifteen_receivers(receivers):
    samples = samples_of(RadioSettings(receivers=receivers, outside_share=0.0), 50)
    answer = network_for(samples)(samples.all().reports).refined
    assert answer.mean.isfinite().all()
    assert torch.linalg.cholesky(answer.covariance()).isfinite().all()


@torch.no_grad()
def test_a_batch_changes_no_answer(network, samples):
    whole = network(samples.all().reports).refined.mean
    few = network(samples.batch([5, 6], [None, None]).reports).refined.mean
    assert torch.allclose(few, whole[5:7], atol=1e-4)


def test_the_loss_is_that_of_a_two_dimensional_gaussian():
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    estimate = Estimate(torch.randn(50, 2, generator=generator, dtype=torch.float64), root)
    truth = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    gaussian = torch.distributions.MultivariateNormal(estimate.mean, estimate.covariance())
    assert torch.allclose(negative_log_likelihood(estimate, truth), -gaussian.log_prob(truth))


def test_the_variance_counts_once_for_each_axis():
    """An earlier system counted the logarithm of a circular variance once; it then claims to be too sure."""
    truth = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    deviations = torch.linspace(0.7, 1.4, 141, dtype=torch.float64)
    losses = []
    for deviation in deviations.log():
        root = torch.stack([deviation, deviation * 0, deviation]).expand(len(truth), 3)
        losses.append(negative_log_likelihood(Estimate(torch.zeros_like(truth), root), truth).mean())
    assert deviations[torch.stack(losses).argmin()] == pytest.approx(1.0, abs=0.01)
    assert losses[60] == pytest.approx(math.log(2 * math.pi) + 1, abs=0.02)


def test_the_tempered_loss_is_the_same_up_to_ten_deviations_and_still_grows_beyond():
    truth = torch.tensor(
        [[0.0, 3.0], [9.9, 0.0], [11.0, 0.0], [1e4, 0.0]], dtype=torch.float64, requires_grad=True
    )
    estimate = Estimate(torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64))
    plain, tempered = negative_log_likelihood(estimate, truth), tempered_loss(estimate, truth)
    assert torch.equal(plain[:2], tempered[:2])
    assert (tempered[2:] < plain[2:]).all()
    tempered.sum().backward()
    assert (truth.grad[:, 0] >= 0).all()
    assert truth.grad[3, 0] > 0


@torch.no_grad()
def test_the_root_of_an_estimate_is_the_root_of_its_covariance(network, samples):
    estimate = network(samples.all().reports).refined
    first, cross, second = estimate.root[:, 0].exp(), estimate.root[:, 1], estimate.root[:, 2].exp()
    root = torch.stack([first, torch.zeros_like(first), cross, second], dim=1).reshape(-1, 2, 2)
    assert torch.allclose(root @ root.mT, estimate.covariance())


@torch.no_grad()
def test_before_it_has_learned_anything_the_refinement_is_gauss_newton():
    """To a metre, from a first estimate that is off by kilometres: that is what float64 is for."""
    made = Generator(RadioSettings(), 4)
    arrays = made.samples(0, 300).arrays
    samples = RadioSamples(made.network, arrays)
    reports, truth = samples.all().reports, samples.truth
    fresh = LocalizationNetwork(width=16, heads=2, layers=1, dropout=0.0, refinements=2).eval()
    off = truth + torch.randn(truth.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    start = Estimate(off, torch.zeros(len(truth), 3, dtype=torch.float64))
    found = fresh.refine(reports, start)
    classical = baselines.gauss_newton_on_timing(made.network, arrays)
    apart_m = 1000 * np.linalg.norm(found.mean.numpy() - classical.positions_km, axis=1)
    assert np.percentile(apart_m, 95) < 1.0
    sizes = found.covariance().numpy() / classical.covariances_km2
    assert np.percentile(np.abs(sizes[:, 0, 0] - 1), 80) < 0.01


@torch.no_grad()
def test_arrivals_need_float64():
    """Ranges of 150 km in float32 lose what a clock of 10 ns resolves; here a change of 1 m is seen to 1 mm."""
    samples = samples_of(RadioSettings(sync_jitter_ns=0.0), 20)
    problem = Arrivals(samples.all().reports)
    late = torch.zeros_like(problem.weights)
    moved = samples.truth + torch.tensor([0.001, 0.0], dtype=torch.float64)
    for _ in range(4):
        moved = moved + problem.step(moved, problem.weights, late)
    settled = moved + problem.step(moved, problem.weights, late)
    assert (1000 * (settled - moved).norm(dim=1)).max() < 0.001


@torch.no_grad()
def test_without_refinement_the_first_estimate_is_the_answer(samples):
    answer = network_for(samples, refinements=0)(samples.all().reports)
    assert answer.refined is answer.unrefined


def test_normalisation_is_fitted_once_and_saved(samples):
    network = network_for(samples)
    state = network.state_dict()
    assert {"feature_mean", "feature_scale", "position_mean", "position_scale"} <= set(state)
    assert torch.allclose(state["position_mean"].double(), samples.truth.mean(dim=0), atol=1e-4)
    other = LocalizationNetwork(width=16, heads=2, layers=1, dropout=0.1, refinements=2)
    other.load_state_dict(state)
    with torch.no_grad():
        reports = samples.all().reports
        assert torch.equal(other.eval()(reports).refined.mean, network(reports).refined.mean)


def test_mahalanobis_is_one_at_one_deviation():
    root = torch.tensor([[math.log(2.0), 0.5, math.log(3.0)]], dtype=torch.float64)
    estimate = Estimate(torch.zeros(1, 2, dtype=torch.float64), root)
    assert mahalanobis_squared(estimate, torch.tensor([[2.0, 0.5]])).item() == pytest.approx(1.0)
    assert mahalanobis_squared(estimate, torch.tensor([[0.0, 3.0]])).item() == pytest.approx(1.0)
