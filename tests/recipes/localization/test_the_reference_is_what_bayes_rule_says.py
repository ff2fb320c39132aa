"""The Bayes-optimal reference: what it knows of strengths, that its sums converge, and that its regions hold."""

import numpy as np
import pytest
import torch

from heimdall.recipes.localization import baselines, evaluate
from heimdall.recipes.localization.calibration import Calibration
from heimdall.recipes.localization.generator import Generator
from heimdall.recipes.localization.locating.late import obstruction_probability
from heimdall.recipes.localization.reference import table
from heimdall.recipes.localization.reference.reference import BayesReference, NoReference, _geometric_median
from heimdall.recipes.localization.reference.strengths import LATE, StrengthTables
from heimdall.recipes.localization.score import score
from heimdall.recipes.localization.settings import RadioSettings

torch.set_num_threads(1)

LATER = RadioSettings(late_arrivals=True, outside_share=0.0, min_receivers=5, obstacle_mean_m=-20.0)
DRAWS = 400


@pytest.fixture(scope="module")
def reference():
    return BayesReference(LATER, draws=DRAWS)


@pytest.fixture(scope="module")
def arrays():
    return Generator(LATER, 7).samples(0, 40).arrays


@pytest.fixture(scope="module")
def found(reference, arrays):
    return reference.estimate(arrays, size=17)


def test_the_tables_hold_as_many_obstructed_links_as_the_obstacles_make(reference):
    """Averaged over what obstacles share, the class has the probability that heights and earth give it."""
    tables = reference.tables
    network = reference.network
    for receiver, place in ((0, 20), (5, 25), (6, 30)):
        distance = np.exp(tables.log_km[place])
        mass = sum(
            weight * table[LATE, receiver, place].sum()
            for weight, table in zip(tables.shared_weights, tables.tables, strict=True)
        )
        altitude = network.altitudes_m[receiver : receiver + 1]
        wanted = obstruction_probability(
            LATER, np.array([distance]), network.transmitter_altitude_m, altitude
        )
        assert mass == pytest.approx(wanted[0], abs=0.04)


def test_a_receiver_that_hears_nothing_says_that_it_is_far(reference):
    detected, rss = np.zeros((2, 7), bool), np.zeros((2, 7))
    near, far = reference.network.positions_km.mean(axis=0), np.array([400.0, 0.0])
    weights = reference.tables.weights(np.stack([near, far]), detected, rss)
    silent = weights.silent.sum(axis=1)[..., 0] + reference.tables.log_node
    near_total, far_total = np.logaddexp.reduce(silent, axis=1)
    assert far_total > near_total + 3


def test_receivers_near_each_other_share_their_shadowing(reference):
    """Aquila di Giaveno and Coazze, 2.4 km apart: a strength of the one says what the other's will be."""
    names = [receiver.name for receiver in LATER.receivers]
    pair = [names.index("Aquila di Giaveno"), names.index("Coazze")]
    assert sorted(map(sorted, reference.tables.groups))[0] == pair
    assert len(reference.tables.groups) == 6
    position, rss = np.array([[0.0, 0.0]]), np.full((1, 7), -95.0)
    uneven = rss.copy()
    uneven[0, pair] += [12.0, -12.0]

    def log_evidence(strengths, tables):
        found = tables.weights(position, np.ones((1, 7), bool), strengths)
        either = np.logaddexp(found.direct, found.late)[0, pair]
        together = np.logaddexp.reduce(either.sum(axis=0) + np.log(tables.shadow_weights), axis=1)
        return np.logaddexp.reduce(together + tables.log_node)

    bare = {"fading": False, "path_loss": "free_space", "obstacle_mean_m": -1000.0, "obstacle_spread_m": 0.0}
    shared = StrengthTables(Generator(LATER.model_copy(update=bare), 0), DRAWS)
    far = LATER.model_copy(update=bare | {"shadowing_distance_km": 0.01})
    alone = StrengthTables(Generator(far, 0), DRAWS)
    apart = log_evidence(rss, alone) - log_evidence(uneven, alone)
    assert log_evidence(rss, shared) - log_evidence(uneven, shared) > apart + 5
    assert len(alone.groups) == 7


def test_without_late_arrivals_it_is_the_classical_estimate():
    settings = LATER.model_copy(update={"late_arrivals": False})
    arrays = Generator(settings, 7).samples(0, 12).arrays
    reference = BayesReference(settings, draws=DRAWS)
    careful = baselines.gauss_newton_on_timing(reference.network, arrays)
    found = reference.estimate(arrays, size=17)
    assert 1000 * np.abs(found.positions_km - careful.positions_km).max() < 3


def test_a_finer_grid_gives_the_same(reference, arrays, found):
    few = {name: values[:12] for name, values in arrays.items()}
    finer = reference.estimate(few, size=25)
    moved = 1000 * np.hypot(*(finer.positions_km - found.positions_km[:12]).T)
    assert np.median(moved) < 5


def test_it_beats_the_classical_method_and_its_regions_hold(reference, arrays, found):
    careful = baselines.gauss_newton_on_timing(reference.network, arrays)

    def median_m(positions):
        return np.median(1000 * np.hypot(*(positions - arrays["position_km"]).T))

    assert median_m(found.positions_km) < 0.95 * median_m(careful.positions_km)
    assert np.all((found.mass_denser >= 0) & (found.mass_denser <= 1.0001))
    assert found.coverage(0.68) == pytest.approx(0.68, abs=0.2)
    assert found.coverage(0.95) > 0.85


def test_a_comparison_writes_rows_ratios_and_the_error_of_the_integration(reference, arrays, found):
    """A network that answers as the reference does has its errors; one that is twice as far off has twice of them."""
    few = {name: values[:16] for name, values in arrays.items()}
    settings, truth = LATER.model_copy(update={"late_arrivals": False}), few["position_km"]
    best = BayesReference(settings, draws=100).estimate(few)

    def said(positions_km, samples=16):
        covariances = np.tile(0.01 * np.eye(2), (16, 1, 1))
        scored = score(positions_km, covariances, truth, few["bound_m"])
        row = evaluate.EvaluationRow(evaluate.NETWORK, scored, positions_km, covariances)
        heard = few["detected"].sum(axis=1)
        evaluated = evaluate.Evaluated((row,), Calibration(), truth, few["bound_m"], heard, ())
        compared = table.compare(settings, evaluated, few, samples, draws=100)
        return compared.rows, compared.text, evaluate.table(evaluated, compared.rows)

    rows, text, whole = said(best.positions_km)
    assert "1.000 at the median (1.000 to 1.000), 1.000 at p68" in text
    assert [row.name for row in rows] == [table.REFERENCE]
    assert rows[0].score.coverage_95 == best.coverage(0.95)
    assert f"| {table.REFERENCE} | {rows[0].score.p50_m:.1f} | " in whole
    assert "beside a grid of 37 points to a side one of 13 points moves the estimates by" in text
    assert "one of 25 points moves the estimates by 0.0" in text
    rows, text, _ = said(truth + 2.0 * (best.positions_km - truth), samples=12)
    assert "2.000 at the median (2.000 to 2.000), 2.000 at p68" in text
    assert "the network's error is 4.000 (4.000 to 4.000)" in text
    assert [row.name for row in rows] == [f"{table.REFERENCE}, first 12", "network, first 12"]
    assert rows[1].score.p50_m == pytest.approx(2 * rows[0].score.p50_m)


def test_the_geometric_median_has_the_smallest_mean_distance():
    """Two thirds of the weight on one place, one third far away: the mean lies between, the median on the place."""
    places = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    shares = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    found = _geometric_median(torch.tensor([[1.0, 0.0]], dtype=torch.float64), places, shares)
    assert found[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-3)


def test_it_says_what_it_does_not_know():
    with pytest.raises(NoReference, match="antennas = false"):
        BayesReference(LATER.model_copy(update={"antennas": True}))


def test_a_strength_table_is_a_distribution(reference):
    assert isinstance(reference.tables, StrengthTables)
    sums = reference.tables.tables.sum(axis=(1, 4))  # over classes and losses
    assert sums == pytest.approx(1.0, abs=0.01)
