"""The sizes of the ellipses: from the validation, true for unseen samples, exact across a pause, in every export."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from heimdall import codec
from heimdall.recipes import registry
from heimdall.recipes.localization import evaluate, export, kinds
from heimdall.recipes.localization.calibration import (
    SHARES,
    Calibration,
    Distances,
    radii_squared,
    unseen_coverage,
)
from heimdall.recipes.localization.recipe import RadioSamples
from heimdall.recipes.localization.score import ellipse_radius_squared, mahalanobis_squared, score
from heimdall.trainer.protocol import StagedCheckpoint
from tests.engine.attempts import Stop, attempt, resumed_from, spec_of

torch.set_num_threads(1)

CONFIG = {
    "epochs": 2, "batch_size": 160, "samples": 720, "width": 8, "heads": 2, "layers": 1, "refinements": 1,
    "validation_split": 0.3, "checkpoint_every_minutes": 0.0, "late_arrivals": True, "device": "cpu",
}  # fmt: skip


def of_seven(squared: np.ndarray) -> Distances:
    """Of stations that seven receivers heard."""
    return Distances(squared, np.full(len(squared), 7))


def heavy_tailed(count: int, *, seed: int) -> np.ndarray:
    """Squared errors in units of the covariance that they have on average: four in five small, one in five large."""
    generator = np.random.default_rng(seed)
    deviations = np.where(generator.random(count) < 0.2, 2.0, 0.5)
    return ((deviations[:, None] * generator.standard_normal((count, 2))) ** 2).sum(axis=1)


def test_a_size_is_the_distance_of_the_rank_that_the_share_asks_for():
    found = radii_squared(np.random.default_rng(1).permutation(np.arange(1.0, 100.0)))
    assert found == {share: round(100 * share) for share in SHARES}
    assert list(found) == sorted(found)


def test_of_few_samples_the_farthest_counts_rather_than_one_too_near():
    """Of 19 the farthest holds 95 %: a twentieth is as likely to be the farthest as any other."""
    assert radii_squared(np.arange(20.0))[0.95] == 19.0
    assert radii_squared(np.arange(19.0)) == {}


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_one_lost_sample_does_no_harm_and_many_leave_the_network_its_own_ellipses(lost):
    distances = np.arange(1.0, 101.0)
    distances[:3] = lost
    assert radii_squared(distances)[0.95] == 99.0
    distances[:20] = lost
    calibration = Calibration()
    calibration.fit(of_seven(np.arange(100.0)))
    calibration.fit(of_seven(distances))
    assert calibration.radius_squared(0.68) == ellipse_radius_squared(0.68)
    assert calibration.state_dict() == {}


def test_errors_with_heavy_tails_are_covered_as_said_and_a_gaussian_would_not_cover_them():
    calibration = Calibration()
    calibration.fit(of_seven(heavy_tailed(5000, seed=2)))
    fresh = heavy_tailed(50_000, seed=3)
    assert np.mean(fresh <= ellipse_radius_squared(0.68)) > 0.8
    for share in SHARES:
        assert np.mean(fresh <= calibration.radius_squared(share)) == pytest.approx(share, abs=0.02)
    assert unseen_coverage(of_seven(heavy_tailed(5000, seed=4))) == pytest.approx(
        {one: one for one in SHARES}, abs=0.03
    )


def test_coverage_is_counted_on_samples_that_the_sizes_do_not_know():
    """Sizes of the very samples would hold the share exactly, whatever comes later."""
    distances = np.where(np.arange(1000) % 2, 1.0, 4.0) * np.linspace(0.5, 1.5, 1000)
    own = radii_squared(distances)
    assert np.mean(distances <= own[0.68]) == pytest.approx(0.68, abs=0.002)
    # The near half lies within whatever the far one asks for, the far half beyond all that the near one does.
    assert unseen_coverage(of_seven(distances))[0.68] == pytest.approx(0.5, abs=0.01)


def test_gaussian_errors_keep_the_ellipses_of_a_gaussian():
    generator = np.random.default_rng(5)
    covariance = np.array([[4.0, 1.9], [1.9, 1.0]])
    errors = generator.standard_normal((20_000, 2)) @ np.linalg.cholesky(covariance).T
    covariances, truth = np.tile(covariance, (len(errors), 1, 1)), np.zeros_like(errors)
    calibration = Calibration()
    calibration.fit(of_seven(mahalanobis_squared(errors, covariances, truth)))
    for share in (0.05, 0.5, 0.68, 0.95):
        assert calibration.radius_squared(share) == pytest.approx(ellipse_radius_squared(share), rel=0.08)
    found = score(errors, covariances, truth, np.ones(len(errors)), radius_squared=calibration.radius_squared)
    assert (found.coverage_68, found.coverage_95) == pytest.approx((0.68, 0.95), abs=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ellipses")


def spec(folder, **fields):
    package = registry.get("localization").package
    return spec_of(folder, registry.validate("localization", CONFIG), package=package, **fields)


@pytest.fixture(scope="module")
def unstopped(folder):
    return attempt(spec(folder / "unstopped"))


def sizes_in(staged: StagedCheckpoint) -> dict:
    return codec.load(staged.path)[0]["recipe_calibration"]


def test_a_checkpoint_holds_the_sizes_of_the_newest_validation_and_none_before_the_first(folder, unstopped):
    best = [message for message in unstopped.of("staged") if "best" in message.kinds]
    of_epochs = [sizes_in(message) for message in best]
    assert of_epochs[0]["samples"] > 60
    assert len({json.dumps(sizes) for sizes in of_epochs}) == len(best)  # each epoch's own
    early = attempt(spec(folder / "early"), Stop(after_step=2)).last_staged
    assert sizes_in(early) == {}


@pytest.mark.parametrize("stop", [Stop(after_step=1), Stop(in_validation=2), Stop(at_epoch=1)], ids=str)
def test_a_pause_changes_no_size(stop, folder, unstopped):
    place = folder / str(stop)
    paused = attempt(spec(place), stop).last_staged
    resumed = attempt(spec(place, **resumed_from(paused)))
    assert resumed.last_staged.digest == unstopped.last_staged.digest


@pytest.fixture(scope="module")
def old(folder):
    """A checkpoint of before there was a calibration, in the middle of the second epoch."""
    staged = attempt(spec(folder / "old"), Stop(after_step=5)).last_staged
    parts, about = codec.load(staged.path)
    del parts["recipe_calibration"]
    saved = codec.save(folder / "old.safetensors", parts, about)
    return replace(staged, path=saved.path, digest=saved.digest)


def test_a_checkpoint_of_before_is_resumed_to_the_same_end(folder, old, unstopped):
    resumed = attempt(spec(folder / "resumed", **resumed_from(old)))
    assert resumed.last_staged.digest == unstopped.last_staged.digest


def test_an_evaluation_says_whose_ellipses_it_counts(folder, old, unstopped):
    def said(path) -> str:
        trained = evaluate.open_checkpoint(path)
        arrays = evaluate.fresh_samples(trained.settings, seed=9, samples=200)
        found = evaluate.evaluate(trained.network, trained.settings, arrays, calibration=trained.calibration)
        return evaluate.about_ellipses(found)

    assert "holds no calibration" in said(old.path)
    sizes = sizes_in(unstopped.last_staged)
    assert f"as large as {sizes['samples']} validation samples ask for, and more of each" in said(
        unstopped.last_staged.path
    )


def test_kinds_of_stations_are_counted_apart():
    """Four sizes of ellipses, the smallest too small; two links of each in the second half are obstructed."""
    count = 800
    covariances = np.eye(2) * np.repeat([1.0, 2.0, 3.0, 4.0], count // 4)[:, None, None]
    distances = np.where(np.arange(count) < count // 4, 100.0, 0.0)
    seven = np.arange(7)[None]
    arrays = {
        "detected": np.ones((count, 7), bool),
        "obstructed": (np.arange(count) >= 400)[:, None] & (seven < 2),
    }
    rows = [
        line.split(" | ")
        for line in kinds.table(distances, covariances, arrays, Calibration()).splitlines()[2:]
    ]
    assert [(row[0].removeprefix("| "), row[1], row[2]) for row in rows] == [
        ("all", "100.0 %", "75.0 %"),
        (kinds.QUARTERS[0], "25.0 %", "0.0 %"),
        *((name, "25.0 %", "100.0 %") for name in kinds.QUARTERS[1:]),
        ("heard by 7 or more", "100.0 %", "75.0 %"),
        ("no link obstructed", "50.0 %", "50.0 %"),
        ("two", "50.0 %", "100.0 %"),
    ]


def test_an_export_answers_with_the_ellipses_that_the_checkpoint_holds(unstopped):
    trained = evaluate.open_checkpoint(unstopped.last_staged.path)
    calibration = trained.calibration
    assert "of_numbers" in sizes_in(unstopped.last_staged)
    arrays = evaluate.fresh_samples(trained.settings, seed=9, samples=20)
    reports = RadioSamples(evaluate.Network.of(trained.settings), arrays).all().reports
    with torch.no_grad():
        found = dict(zip(export.OUTPUTS, export.answering(trained)(*reports), strict=True))
    for share, name in ((0.68, "ellipse_68_km2"), (0.95, "ellipse_95_km2")):
        reach = torch.from_numpy(calibration.reach_squared(share, arrays["detected"].sum(axis=1)))
        assert torch.equal(found[name], reach[:, None, None] * found["covariance_km2"])
