"""What a network answers for receivers that it was not trained with, beside the careful classical method.

Receivers stand at random in a box as wide as named, with random heights; the rest of the scene is as in the training.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from heimdall.recipes.localization import baselines
from heimdall.recipes.localization.evaluate import Trained, answers
from heimdall.recipes.localization.generator import Generator, TooStrict
from heimdall.recipes.localization.geometry import KM_PER_DEGREE_NORTH
from heimdall.recipes.localization.random_networks import with_receivers
from heimdall.recipes.localization.recipe import RadioSamples
from heimdall.recipes.localization.reference.reference import BayesReference
from heimdall.recipes.localization.score import Score, score
from heimdall.recipes.localization.settings import RadioSettings, Receiver

Floats = NDArray[np.float64]

LAYOUTS = 8
SAMPLES_EACH = 400
_SEED = 2026
_DRAWS = 1000
"""Of the reference's tables, which each layout needs anew."""
_MOVED_KM = (0.0, 1.0, 10.0, 30.0)
_KINDS = ((3, 170.0), (4, 170.0), (5, 170.0), (7, 55.0), (7, 170.0), (7, 330.0), (10, 170.0), (15, 170.0))
"""How many receivers, and how wide their box is from north to south, km; it is as wide the other way."""
_ALTITUDES_M = (100.0, 700.0)
_LATITUDE = 45.0


class UnseenRow(NamedTuple):
    name: str
    network: Score
    classical: Score
    reference_m: tuple[float, ...]
    """Median and p95 of the network's error over the reference's on the same samples; empty where nobody asked."""


def rows(
    trained: Trained,
    reference: int = 0,
    *,
    layouts: int = LAYOUTS,
    samples: int = SAMPLES_EACH,
    kinds: Iterable[tuple[int, float]] = _KINDS,
) -> Iterator[UnseenRow]:
    """reference: how many samples of each layout the Bayes-optimal reference looks at."""
    random = np.random.default_rng(_SEED)
    fixed = () if trained.settings.is_random else _MOVED_KM
    for moved in fixed:
        name = f"each moved by {moved:g} km" if moved else "those of the training"
        some = [_moved(trained.settings, moved, random) for _ in range(layouts)]
        yield _row(name, trained, some, samples, reference)
    for count, wide in kinds:
        some = [_elsewhere(trained.settings, count, wide, random) for _ in range(layouts)]
        yield _row(f"{count} others, within {wide:g} km", trained, some, samples, reference)


def table_of(found: list[UnseenRow]) -> str:
    """In Markdown."""
    header = ("receivers", *(f"{name}, m" for name in ("median", "p95")), "in 68 %", "in 95 %")
    header += ("classical: median, m", "p95, m")
    header += ("over the reference's median", "over its p95") if found[0].reference_m else ()
    lines = [header, ("---", *["---:"] * (len(header) - 1))]
    for row in found:
        ours, theirs = row.network, row.classical
        metres = [[f"{one.p50_m:.1f}", f"{one.p95_m:.1f}"] for one in (ours, theirs)]
        shares = (f"{100 * share:.1f} %" for share in (ours.coverage_68, ours.coverage_95))
        ratios = (f"{ratio:.3f}" for ratio in row.reference_m)
        lines.append((row.name, *metres[0], *shares, *metres[1], *ratios))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _moved(settings: RadioSettings, moved_km: float, random: np.random.Generator) -> RadioSettings:
    """Each receiver goes so far in a direction of its own."""
    angles = random.uniform(0.0, 2.0 * np.pi, len(settings.receivers))
    receivers = [
        one.model_copy(
            update={
                "latitude": one.latitude + moved_km * float(np.cos(angle)) / KM_PER_DEGREE_NORTH,
                "longitude": one.longitude
                + moved_km * float(np.sin(angle)) / (KM_PER_DEGREE_NORTH * np.cos(np.radians(one.latitude))),
            }
        )
        for one, angle in zip(settings.receivers, angles, strict=True)
    ]
    return with_receivers(settings, receivers)


def _elsewhere(
    settings: RadioSettings, count: int, wide_km: float, random: np.random.Generator
) -> RadioSettings:
    """The first draw that makes a scene in which stations can be located."""
    north = wide_km / KM_PER_DEGREE_NORTH
    east = north / np.cos(np.radians(_LATITUDE))
    while True:
        places = random.random((count, 3))
        receivers = [
            Receiver(
                name=f"R{number}",
                latitude=_LATITUDE + north * place[0],
                longitude=8.0 + east * place[1],
                altitude_m=_ALTITUDES_M[0] + (_ALTITUDES_M[1] - _ALTITUDES_M[0]) * place[2],
            )
            for number, place in enumerate(places)
        ]
        try:
            found = with_receivers(settings, receivers)
            Generator(found, _SEED).samples(0, SAMPLES_EACH)
        except (ValidationError, TooStrict):
            continue
        return found


def _row(
    name: str, trained: Trained, layouts: list[RadioSettings], samples: int, reference: int
) -> UnseenRow:
    parts = [_answered(trained, settings, samples, reference) for settings in layouts]
    joined = _AnsweredLayout(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    truth, bounds = joined.truth_km, joined.bounds_m
    reach = partial(trained.calibration.reach_squared, heard=joined.heard)
    network = score(joined.positions_km, joined.covariances_km2, truth, bounds, radius_squared=reach)
    classical = score(joined.classical_km, joined.classical_km2, truth, bounds)
    known = np.isfinite(joined.reference_km[:, 0])
    return UnseenRow(name, network, classical, _ratios(joined, known) if known.any() else ())


class _AnsweredLayout(NamedTuple):
    """One layout's samples; the reference's positions are nan where it was not asked."""

    positions_km: Floats
    covariances_km2: Floats
    classical_km: Floats
    classical_km2: Floats
    reference_km: Floats
    truth_km: Floats
    bounds_m: Floats
    heard: NDArray[np.integer]


def _answered(trained: Trained, settings: RadioSettings, samples: int, reference: int) -> _AnsweredLayout:
    generator = Generator(settings, _SEED)
    arrays = generator.samples(0, samples).arrays
    refined, _ = answers(trained.network, RadioSamples(generator.network, arrays))
    careful = baselines.gauss_newton_on_timing(generator.network, arrays)
    best = np.full_like(refined.positions_km, np.nan)
    if reference:
        first = {name: values[:reference] for name, values in arrays.items()}
        best[:reference] = BayesReference(settings, draws=_DRAWS).estimate(first).positions_km
    return _AnsweredLayout(
        refined.positions_km,
        refined.covariances_km2,
        careful.positions_km,
        careful.covariances_km2,
        best,
        arrays["position_km"],
        arrays["bound_m"],
        arrays["detected"].sum(axis=1),
    )


def _ratios(found: _AnsweredLayout, chosen: NDArray[np.bool_]) -> tuple[float, ...]:
    ours, best = (
        np.hypot(*(positions[chosen] - found.truth_km[chosen]).T)
        for positions in (found.positions_km, found.reference_km)
    )
    return tuple((np.percentile(ours, [50, 95]) / np.percentile(best, [50, 95])).tolist())
