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
from heimdall.recipes.localization.reference.strengths import DRAWS, StrengthTables
from heimdall.recipes.localization.settings import RadioSettings

Floats = NDArray[np.float64]

GRID = 25
"""Points to a side of the last grid."""
MODES = 3
_CHUNK = 16


class NoReference(ValueError):
    """The reference does not know these settings."""


@dataclass(frozen=True)
class ReferenceEstimates:
    positions_km: Floats
    """The posterior's mean: no estimate has a smaller expected squared error."""
    mass_denser: Floats
    """How much of the posterior is denser than the truth; evenly spread over 0 to 1 where all is right."""

    def coverage(self, share: float) -> float:
        """Of the smallest regions that hold this share."""
        return float(np.mean(self.mass_denser <= share))


class BayesReference:
    def __init__(self, settings: RadioSettings, *, draws: int = DRAWS) -> None:
        if settings.antennas:
            raise NoReference("The reference does not know antenna gains; it needs antennas = false.")
        self.settings = settings
        generator = Generator(settings, 0)
        self.network = generator.network
        self.tables = StrengthTables(generator, draws)
        low, high = self.network.box_km
        frame = self.network.frame_km(settings.outside_degrees)
        self.prior = Prior(*(torch.from_numpy(part) for part in (low, high, frame)), settings.outside_share)
        self.late_km = KM_PER_NS * settings.late_mean_ns if settings.late_arrivals else 0.0

    def estimate(self, arrays: Mapping[str, NDArray], *, size: int = GRID) -> ReferenceEstimates:
        """Of samples of the generator, with their true positions."""
        count = len(arrays["detected"])
        chunks = [slice(start, start + _CHUNK) for start in range(0, count, _CHUNK)]
        parts = [self._chunk({name: rows[chunk] for name, rows in arrays.items()}, size) for chunk in chunks]
        positions, masses = zip(*parts, strict=True)
        return ReferenceEstimates(np.concatenate(positions), np.concatenate(masses))

    def _chunk(self, arrays: Mapping[str, NDArray], size: int) -> tuple[Floats, Floats]:
        """Each minimum has a grid of its own; their masses add up."""
        truth, found = torch.from_numpy(arrays["position_km"]), self._fits(arrays)
        away = np.linalg.norm(found.positions_km - arrays["position_km"][:, None], axis=2)
        nearest = np.nanargmin(away, axis=1)
        posteriors, at_truth = [], []
        for mode in range(found.positions_km.shape[1]):
            # A sample without this minimum gets its first one's grid, and no weight.
            is_there = np.isfinite(found.costs[:, mode])
            centres = np.where(is_there[:, None], found.positions_km[:, mode], found.positions_km[:, 0])
            covariances = np.where(
                is_there[:, None, None], found.covariances_km2[:, mode], found.covariances_km2[:, 0]
            )
            model = self._model(arrays, centres)
            grid = self._grid(model, centres, covariances)
            posteriors.append(_without(integrate(model, grid, self.prior, size), ~torch.from_numpy(is_there)))
            density = density_at(model, grid, self.prior, truth, size)
            at_truth.append(density.masked_fill(torch.from_numpy(nearest != mode), -torch.inf))
        return _combined(posteriors, torch.stack(at_truth).amax(dim=0))

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
            log_node=torch.from_numpy(weights.node),
            late_km=self.late_km,
        )

    def _grid(self, model: ArrivalModel, centres_km: Floats, covariances_km2: Floats) -> Grid:
        axes = torch.linalg.cholesky(torch.from_numpy(covariances_km2))
        weights = torch.where(model.detected, 1.0 / (model.error_km**2 + model.late_km**2), 0.0)
        return Grid(torch.from_numpy(centres_km), axes, weights.sum(dim=1).rsqrt())


def _without(posterior: Posterior, absent: Tensor) -> Posterior:
    return Posterior(
        log_mass=posterior.log_mass.masked_fill(absent, -torch.inf),
        east=posterior.east,
        north=posterior.north,
        log_density=posterior.log_density.masked_fill(absent[:, None], -torch.inf),
        log_cell=posterior.log_cell,
    )


def _combined(posteriors: list[Posterior], log_at_truth: Tensor) -> tuple[Floats, Floats]:
    total = torch.logsumexp(torch.stack([one.log_mass for one in posteriors]), dim=0)
    shares = [torch.exp(one.log_density + one.log_cell[:, None] - total[:, None]) for one in posteriors]
    east = sum((share * one.east).sum(dim=1) for share, one in zip(shares, posteriors, strict=True))
    north = sum((share * one.north).sum(dim=1) for share, one in zip(shares, posteriors, strict=True))
    denser = sum(
        torch.where(one.log_density > log_at_truth[:, None], share, 0.0).sum(dim=1)
        for share, one in zip(shares, posteriors, strict=True)
    )
    return torch.stack([east, north], dim=1).numpy(), denser.numpy()
