"""What the trained network answers for real reports: on the curved earth, and with values that nobody reported.

The network knows a flat plane. Each arrival is handed to it less the difference that the earth's curvature makes
between the receiver and the position that is assumed: first the classical one, then the network's own answer.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from heimdall.recipes.localization.baselines import Estimates
from heimdall.recipes.localization.evaluate import Trained
from heimdall.recipes.localization.geometry import Links
from heimdall.recipes.localization.locating.classical import TimesOfArrival
from heimdall.recipes.localization.measurement import KM_PER_NS
from heimdall.recipes.localization.network import VALUES, Reports
from heimdall.recipes.localization.recipe import BATCH

Floats = NDArray[np.float64]

STRENGTHS = VALUES[:3]
_ROUNDS = 2  # curvature changes by metres in kilometres: the second answer's own is good to centimetres


def answers(trained: Trained, arrivals: TimesOfArrival, strengths: Floats, around_km: Floats) -> Estimates:
    """strengths: (samples, receivers, 3) of STRENGTHS, nan where a receiver did not say.

    around_km: a first position.
    """
    position = around_km
    for _ in range(_ROUNDS):
        found = _answer(trained, arrivals, strengths, _curvature_ns(arrivals, position))
        position = found.positions_km
    return found


def _curvature_ns(arrivals: TimesOfArrival, position_km: Floats) -> Floats:
    flat = Links(arrivals.network, position_km).range_km
    return (arrivals.network.links(position_km).range_km - flat).T / KM_PER_NS


def _answer(trained: Trained, arrivals: TimesOfArrival, strengths: Floats, curvature_ns: Floats) -> Estimates:
    network = arrivals.network
    usual = trained.network.feature_mean[: len(STRENGTHS)].double().numpy()
    values = np.concatenate(
        [
            np.where(np.isnan(strengths), usual, strengths),
            (arrivals.arrival_ns - curvature_ns)[..., None],
            arrivals.error_ns[..., None],
        ],
        axis=2,
    )
    values = np.where(arrivals.detected[..., None], values, 0.0).astype(np.float32)
    places = np.concatenate([network.positions_km, network.rises_km[:, None]], axis=1).astype(np.float32)
    means, covariances = [], []
    with torch.no_grad():
        for start in range(0, len(values), BATCH):
            part = torch.from_numpy(values[start : start + BATCH])
            here = torch.from_numpy(places).expand(len(part), -1, -1)
            heard = torch.from_numpy(arrivals.detected[start : start + BATCH])
            refined = trained.network(Reports(part, here, heard)).refined
            means.append(refined.mean)
            covariances.append(refined.covariance())
    return Estimates(torch.cat(means).numpy(), torch.cat(covariances).numpy())
