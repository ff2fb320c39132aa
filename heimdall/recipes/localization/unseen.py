"""What a network answers for receivers that it was not trained with, beside the careful classical method.

Receivers stand at random in a box as wide as named, with random heights; the rest of the scene is as in the training.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from heimdall.recipes.localization import baselines
from heimdall.recipes.localization.evaluate import Trained, answers
from heimdall.recipes.localization.generator import Generator, TooStrict
from heimdall.recipes.localization.geometry import KM_PER_DEGREE_NORTH
from heimdall.recipes.localization.recipe import RadioSamples
from heimdall.recipes.localization.score import Score, ellipse_radius_squared, score
from heimdall.recipes.localization.settings import RadioSettings, Receiver

LAYOUTS = 8
SAMPLES_EACH = 400
_SEED = 2026
_MOVED_KM = (0.0, 1.0, 10.0, 30.0)
_KINDS = ((3, 170.0), (4, 170.0), (5, 170.0), (7, 55.0), (7, 170.0), (7, 330.0), (10, 170.0), (15, 170.0))
"""How many receivers, and how wide their box is from north to south, km; it is as wide the other way."""
_ALTITUDES_M = (100.0, 700.0)
_LATITUDE = 45.0


class UnseenRow(NamedTuple):
    name: str
    network: Score
    classical: Score


def rows(trained: Trained) -> Iterator[UnseenRow]:
    random = np.random.default_rng(_SEED)
    for moved in _MOVED_KM:
        name = f"each moved by {moved:g} km" if moved else "those of the training"
        yield _row(name, trained, [_moved(trained.settings, moved, random) for _ in range(LAYOUTS)])
    for count, wide in _KINDS:
        layouts = [_elsewhere(trained.settings, count, wide, random) for _ in range(LAYOUTS)]
        yield _row(f"{count} others, within {wide:g} km", trained, layouts)


def table(trained: Trained) -> str:
    """In Markdown."""
    header = ("receivers", *(f"{name}, m" for name in ("median", "p95")), "in 68 %", "in 95 %")
    header += ("classical: median, m", "p95, m")
    lines = [header, ("---", *["---:"] * (len(header) - 1))]
    for row in rows(trained):
        found, other = row.network, row.classical
        shares = (f"{100 * share:.1f} %" for share in (found.coverage_68, found.coverage_95))
        lines.append(
            (
                row.name,
                f"{found.p50_m:.1f}",
                f"{found.p95_m:.1f}",
                *shares,
                f"{other.p50_m:.1f}",
                f"{other.p95_m:.1f}",
            )
        )
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
    return _with(settings, receivers)


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
            found = _with(settings, receivers)
            Generator(found, _SEED).samples(0, SAMPLES_EACH)
        except (ValidationError, TooStrict):
            continue
        return found


def _with(settings: RadioSettings, receivers: list[Receiver]) -> RadioSettings:
    fields = {name: getattr(settings, name) for name in RadioSettings.model_fields}
    return RadioSettings(**fields | {"receivers": tuple(receivers), "min_receivers": 3})


def _row(name: str, trained: Trained, layouts: list[RadioSettings]) -> UnseenRow:
    found: tuple[list, list] = ([], [])
    truth, bounds = [], []
    for settings in layouts:
        generator = Generator(settings, _SEED)
        arrays = generator.samples(0, SAMPLES_EACH).arrays
        refined, _ = answers(trained.network, RadioSamples(generator.network, arrays))
        found[0].append(refined)
        found[1].append(baselines.gauss_newton_on_timing(generator.network, arrays))
        truth.append(arrays["position_km"])
        bounds.append(arrays["bound_m"])
    sizes = (trained.calibration.radius_squared, ellipse_radius_squared)
    scores = [
        score(
            np.concatenate([one.positions_km for one in estimates]),
            np.concatenate([one.covariances_km2 for one in estimates]),
            np.concatenate(truth),
            np.concatenate(bounds),
            radius_squared=radius,
        )
        for estimates, radius in zip(found, sizes, strict=True)
    ]
    return UnseenRow(name, *scores)
