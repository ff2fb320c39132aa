"""The posterior of each sample: the best estimate that there is, and whether its regions hold what they should."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heimdall.recipes.localization.generator import Generator
from heimdall.recipes.localization.locating.classical import Fits, TimesOfArrival, fit
from heimdall.recipes.localization.measurement import KM_PER_NS
from heimdall.recipes.localization.reference.integration import (
    ArrivalModel,
    Grid,
    Posterior,
    Prior,
    density_at,
    integrate,
    km,
)
from heimdall.recipes.localization.reference.strengths import DRAWS, SEED, StrengthTables
from heimdall.recipes.localization.settings import RadioSettings

Floats = NDArray[np.float64]

GRID = 25
"""Points to a side of the last grid."""
MODES = 3
_CHUNK = 16
_MEDIAN_ROUNDS = 50
_LEAST_KM = 1e-4


class NoReference(ValueError):
    """The reference does not know these settings."""


@dataclass(frozen=True)
class ReferenceEstimates:
    positions_km: Floats
    """The posterior's mean: no estimate has a smaller expected squared error."""
    medians_km: Floats
    """The posterior's geometric median: no estimate has a smaller expected distance."""
    mass_denser: Floats
    """How much of the posterior is denser than the truth; evenly spread over 0 to 1 where all is right."""

    def coverage(self, share: float) -> float:
        """Of the smallest regions that hold this share."""
        return float(np.mean(self.mass_denser <= share))


class BayesReference:
    def __init__(self, settings: RadioSettings, *, draws: int = DRAWS, seed: int = SEED) -> None:
        """draws, seed: of the tables of strengths."""
        if settings.antennas:
            raise NoReference("The reference does not know antenna gains; it needs antennas = false.")
        self.settings = settings
        generator = Generator(settings, 0)
        self.network = generator.network
        self.tables = StrengthTables(generator, draws, seed)
        low, high = self.network.box_km
        frame = self.network.frame_km(settings.outside_degrees)
        self.prior = Prior(*(torch.from_numpy(part) for part in (low, high, frame)), settings.outside_share)
        self.late_km = KM_PER_NS * settings.late_mean_ns if settings.late_arrivals else 0.0

    def estimate(self, arrays: Mapping[str, NDArray], *, size: int = GRID) -> ReferenceEstimates:
        """Of samples of the generator, with their true positions."""
        count = len(arrays["detected"])
        chunks = [slice(start, start + _CHUNK) for start in range(0, count, _CHUNK)]
        parts = [self._chunk({name: rows[chunk] for name, rows in arrays.items()}, size) for chunk in chunks]
        return ReferenceEstimates(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))

    def _chunk(self, arrays: Mapping[str, NDArray], size: int) -> tuple[Floats, ...]:
        """Each minimum has a grid of its own; their masses add up."""
        found = self._fits(arrays)
        away = np.linalg.norm(found.positions_km - arrays["position_km"][:, None], axis=2)
        nearest = np.nanargmin(away, axis=1)
        posteriors, at_truth = [], []
        for mode in range(found.positions_km.shape[1]):
            rows = np.flatnonzero(np.isfinite(found.costs[:, mode]))
            if len(rows):
                posterior, density = self._round(arrays, found, mode, rows, size)
                posteriors.append(posterior)
                at_truth.append(np.where(nearest == mode, density, -np.inf))
        return _combined(posteriors, torch.from_numpy(np.stack(at_truth).max(axis=0)))

    def _round(
        self, arrays: Mapping[str, NDArray], found: Fits, mode: int, rows: NDArray[np.intp], size: int
    ) -> tuple[Posterior, Floats]:
        """The part round this minimum of the samples that have it, and its logarithm at the truth."""
        some = {name: values[rows] for name, values in arrays.items()}
        centres, covariances = found.positions_km[rows, mode], found.covariances_km2[rows, mode]
        model = self._model(some, centres)
        grid = self._grid(model, centres, covariances)
        posterior = integrate(model, grid, self.prior, size)
        truth = torch.from_numpy(some["position_km"])
        density = np.full(len(found.costs), -np.inf)
        density[rows] = density_at(model, grid, self.prior, truth, size).numpy()
        return _of_all(posterior, rows, len(found.costs)), density

    def _fits(self, arrays: Mapping[str, NDArray]) -> Fits:
        heard = arrays["detected"]
        error = np.where(heard, arrays["error_ns"], 1.0).astype(np.float64)
        wide = np.hypot(error, self.late_km / KM_PER_NS)
        found = fit(TimesOfArrival(self.network, heard, arrays["arrival_ns"].astype(np.float64), wide))
        return found.best(MODES)

    def _model(self, arrays: Mapping[str, NDArray], centres_km: Floats) -> ArrivalModel:
        weights = self.tables.weights(centres_km, arrays["detected"], arrays["rss_dbm"].astype(np.float64))
        places = np.column_stack([self.network.positions_km, self.network.rises_km])
        heard = torch.from_numpy(arrays["detected"])
        return ArrivalModel(
            observed_km=km(torch.from_numpy(arrays["arrival_ns"]).double()),
            error_km=km(torch.where(heard, torch.from_numpy(arrays["error_ns"]).double(), 1.0)),
            detected=heard,
            places_km=torch.from_numpy(places),
            log_direct=torch.from_numpy(weights.direct),
            log_late=torch.from_numpy(weights.late),
            log_silent=torch.from_numpy(weights.silent),
            log_node=torch.from_numpy(self.tables.log_node),
            log_shadow=torch.from_numpy(np.log(self.tables.shadow_weights)),
            groups=self.tables.groups,
            late_km=self.late_km,
        )

    def _grid(self, model: ArrivalModel, centres_km: Floats, covariances_km2: Floats) -> Grid:
        axes = torch.linalg.cholesky(torch.from_numpy(covariances_km2))
        weights = torch.where(model.detected, 1.0 / (model.error_km**2 + model.late_km**2), 0.0)
        return Grid(torch.from_numpy(centres_km), axes, weights.sum(dim=1).rsqrt())


def _of_all(posterior: Posterior, rows: NDArray[np.intp], count: int) -> Posterior:
    """The other samples have no such part: it weighs nothing."""

    def spread(values: torch.Tensor, otherwise: float) -> torch.Tensor:
        found = torch.full((count, *values.shape[1:]), otherwise, dtype=torch.float64)
        found[torch.from_numpy(rows)] = values
        return found

    nothing = -torch.inf
    return Posterior(
        log_mass=spread(posterior.log_mass, nothing),
        east=spread(posterior.east, 0.0),
        north=spread(posterior.north, 0.0),
        log_density=spread(posterior.log_density, nothing),
        log_cell=spread(posterior.log_cell, 0.0),
    )


def _combined(posteriors: list[Posterior], log_at_truth: Tensor) -> tuple[Floats, ...]:
    """In the order of ReferenceEstimates' fields."""
    total = torch.logsumexp(torch.stack([one.log_mass for one in posteriors]), dim=0)
    shares = torch.cat(
        [torch.exp(one.log_density + one.log_cell[:, None] - total[:, None]) for one in posteriors], dim=1
    )
    places = torch.cat([torch.stack([one.east, one.north], dim=2) for one in posteriors], dim=1)
    densities = torch.cat([one.log_density for one in posteriors], dim=1)
    mean = (shares[..., None] * places).sum(dim=1)
    denser = torch.where(densities > log_at_truth[:, None], shares, 0.0).sum(dim=1)
    found = mean, _geometric_median(mean, places, shares), denser
    return tuple(one.numpy() for one in found)


def _geometric_median(start: Tensor, places: Tensor, shares: Tensor) -> Tensor:
    """Weiszfeld's iteration: each place counts by its share over its distance."""
    found = start
    for _ in range(_MEDIAN_ROUNDS):
        away = torch.linalg.vector_norm(places - found[:, None], dim=2)
        weights = shares / away.clamp_min(_LEAST_KM)
        found = (weights[..., None] * places).sum(dim=1) / weights.sum(dim=1, keepdim=True)
    return found
