"""The answer for one transmission: a plain dict, as the API, the command and the page show it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.baselines import Estimates
from heimdall.recipes.localization.evaluate import Trained
from heimdall.recipes.localization.locating import classical
from heimdall.recipes.localization.locating.checking import Contradiction, probability_at
from heimdall.recipes.localization.locating.classical import BEYOND_NOISE, LEAST_HEARD, Fits, TimesOfArrival
from heimdall.recipes.localization.locating.ellipses import ErrorEllipse, ellipse, ring
from heimdall.recipes.localization.locating.geodesy import distance_km
from heimdall.recipes.localization.locating.late import SELDOM, late_probabilities, obstruction_probability
from heimdall.recipes.localization.locating.layouts import LayoutMatch
from heimdall.recipes.localization.locating.reports import Transmission
from heimdall.recipes.localization.score import SHARES, ellipse_radius_squared

Floats = NDArray[np.float64]

LOCATED, AMBIGUOUS, CONTRADICTORY = "located", "ambiguous", "contradictory"
NO_POSITION, TOO_FEW = "no_position", "too_few"
NETWORK, CLASSICAL = "network", "classical"


@dataclass(frozen=True)
class GroupFindings:
    """What was found for transmissions that the same receivers report of; one row a transmission."""

    trained: Trained
    layout: LayoutMatch
    reported: TimesOfArrival
    counted: TimesOfArrival
    """Without those that were left out."""
    fits: Fits
    wrong: dict[int, Contradiction]
    estimates: Estimates
    """The network's."""
    synced: bool


class LocationAnswer:
    def __init__(self, found: GroupFindings, row: int, sent: Transmission) -> None:
        self._found, self._row, self._sent = found, row, sent
        self._names = [report.receiver.name for report in sent.reports]
        self._counted = found.counted.detected[row]
        self._wrong = found.wrong.get(row)
        self._notes: list[str] = []

    def as_dict(self) -> dict[str, Any]:
        status = self._status()
        best = self._best()
        # An average of what contradicts itself, or of a mere direction, is no position of any method.
        answer = {
            "transmission": self._sent.name,
            "status": status,
            "by": best,
            **(self._place(best) if best else {"position": None, "ellipses": []}),
            "others": self._others(best) if best else [],
            NETWORK: self._place(NETWORK) if best else None,
            CLASSICAL: self._place(CLASSICAL) if best else None,
            "noise_probability": self._probability(CLASSICAL),
            "dilution": self._dilution(best) if best else None,
            "synced": self._found.synced,
            "receivers": self._receivers(best),
        }
        return answer | self._known(answer["position"]) | {"notes": self._notes}

    # Which answer

    def _status(self) -> str:
        if self._wrong is not None:
            self._notes.append(self._contradiction())
        if self._has_none:
            self._notes.append(
                "The arrivals give no position: seen from these receivers they tell a direction at best."
            )
        others = int(np.isfinite(self._found.fits.costs[self._row]).sum()) - 1
        if others and not self._has_none:
            places = "Another place explains" if others == 1 else f"{others} other places explain"
            self._notes.append(f"{places} the arrivals as well; a further receiver would decide.")
        if self._wrong is not None:
            return CONTRADICTORY
        return NO_POSITION if self._has_none else AMBIGUOUS if others else LOCATED

    @property
    def _has_none(self) -> bool:
        return self._found.fits.is_no_position(self._row)

    def _contradiction(self) -> str:
        wrong = self._wrong
        assert wrong is not None
        if wrong.culprit is None:
            return (
                "The reports contradict each other beyond any noise, and it cannot be told which of them is wrong. "
                "No position is given; look at the receivers' clocks."
            )
        return (
            f"The reports contradict each other beyond any noise. Without {self._names[wrong.culprit]}, whose "
            f"arrival is {_late(wrong.late_ns)}, the others agree; only they are counted."
        )

    def _best(self) -> str | None:
        """Whose answer comes first; None where there is none."""
        if self._has_none or (self._wrong is not None and self._wrong.culprit is None):
            return None
        doubts = self._doubts()
        self._notes += doubts
        return CLASSICAL if doubts else NETWORK

    def _doubts(self) -> list[str]:
        """Why the classical answer comes first."""
        found = self._found
        heard = int(self._counted.sum())
        if not found.layout.believed(heard):
            return [found.layout.sentence(heard)]
        if found.layout.moved:
            self._notes.append(found.layout.sentence(heard))
        silent = [
            report.receiver.name
            for report, heard in zip(self._sent.reports, self._counted, strict=True)
            if heard and (report.snr_db is None or report.rss_dbm is None)
        ]
        if silent:
            return [
                f"The network needs SNR and RSS, which {', '.join(silent)} did not report; the classical answer "
                "comes first."
            ]
        if self._probability(NETWORK) < BEYOND_NOISE <= self._probability(CLASSICAL):
            return ["The network's position does not explain the arrivals; the classical answer comes first."]
        return []

    def _probability(self, kind: str) -> float:
        settings = self._found.trained.settings
        late = settings.late_mean_ns if settings.late_arrivals else 0.0
        return probability_at(self._found.counted, self._row, self._position_km(kind), late)

    # What is shown of it

    def _position_km(self, kind: str | None) -> Floats:
        if kind == NETWORK:
            return self._found.estimates.positions_km[self._row]
        found: Floats = self._found.fits.positions_km[self._row, 0]
        return found

    def _place(self, kind: str | None) -> dict[str, Any]:
        network = self._found.counted.network
        position = self._position_km(kind)
        ellipses = [self._ellipse(kind, share) for share in SHARES]
        return {
            "position": _degrees(network.to_degrees(position))
            | {"altitude_m": network.transmitter_altitude_m},
            "ellipses": [one.as_dict() | {"ring": ring(network, position, one)} for one in ellipses],
        }

    def _ellipse(self, kind: str | None, share: float) -> ErrorEllipse:
        if kind == NETWORK:
            covariance = self._found.estimates.covariances_km2[self._row]
            heard = int(self._counted.sum())
            reach = self._found.trained.calibration.radius_squared(share, heard)
            return ellipse(covariance, share, reach)
        return ellipse(self._found.fits.covariances_km2[self._row, 0], share, ellipse_radius_squared(share))

    def _others(self, best: str | None) -> list[dict[str, float]]:
        """Minima that the position is not in, each with its likelihood beside that of the best one."""
        fits, row = self._found.fits, self._row
        finite = np.flatnonzero(np.isfinite(fits.costs[row]))
        away = np.linalg.norm(fits.positions_km[row, finite] - self._position_km(best), axis=1)
        places = self._found.counted.network.to_degrees(fits.positions_km[row, finite])
        likelihoods = np.exp(-0.5 * (fits.costs[row, finite] - fits.costs[row, 0]))
        shown = [
            _degrees(place) | {"likelihood": round(float(likelihood), 4)}
            for place, likelihood in zip(places, likelihoods, strict=True)
        ]
        return [one for number, one in enumerate(shown) if number != int(np.argmin(away))]

    def _dilution(self, best: str | None) -> dict[str, float] | None:
        found = classical.dilutions(self._found.counted, self._row, self._position_km(best), self._counted)
        if not np.all(np.isfinite(found)):
            return None
        return {"horizontal": round(found[0], 3), "total": round(found[1], 3)}

    def _receivers(self, best: str | None) -> list[dict[str, Any]]:
        arrivals, position = self._found.reported, self._position_km(best)
        left = classical.residuals_ns(arrivals, self._row, position, self._counted)
        late = self._late(left, position)
        return [
            {
                "receiver": report.receiver.name,
                "latitude": report.receiver.latitude,
                "longitude": report.receiver.longitude,
                "detected": report.detected,
                "used": bool(counted),
                "residual_ns": round(float(left[number]), 1) if report.detected else None,
                "error_ns": round(float(arrivals.error_ns[self._row, number]), 1),
                "late_probability": round(float(late[number]), 3) if counted else None,
            }
            for number, (report, counted) in enumerate(zip(self._sent.reports, self._counted, strict=True))
        ]

    def _late(self, left: Floats, position: Floats) -> Floats:
        arrivals, settings = self._found.reported, self._found.trained.settings
        network = arrivals.network
        before = np.full(len(left), SELDOM)
        if settings.late_arrivals:
            ground = network.links(position[None]).ground_km[:, 0]
            before = obstruction_probability(
                settings, ground, network.transmitter_altitude_m, network.altitudes_m
            )
        leverages = classical.leverages(arrivals, self._row, position, self._counted)
        errors = arrivals.error_ns[self._row]
        return late_probabilities(left, leverages, errors, before, settings.late_mean_ns)

    def _known(self, position: dict[str, float] | None) -> dict[str, Any]:
        """Of a beacon, how far from the truth it would be located."""
        known = self._sent.known
        if known is None or position is None:
            return {}
        ends = (known.latitude, known.longitude), (position["latitude"], position["longitude"])
        return {"known_error_m": round(1000.0 * distance_km(*ends), 1)}


def too_few(sent: Transmission, detected: NDArray[np.bool_]) -> dict[str, Any]:
    heard = int(detected.sum())
    names = [
        {
            "receiver": report.receiver.name, "latitude": report.receiver.latitude,
            "longitude": report.receiver.longitude, "detected": report.detected, "used": False,
            "residual_ns": None, "error_ns": report.error_ns, "late_probability": None,
        }
        for report in sent.reports
    ]  # fmt: skip
    note = f"Only {heard} of {len(sent.reports)} receivers can be used; a position needs {LEAST_HEARD}."
    return {
        "transmission": sent.name, "status": TOO_FEW, "by": None, "position": None, "ellipses": [], "others": [],
        NETWORK: None, CLASSICAL: None, "dilution": None, "synced": False, "receivers": names, "notes": [note],
    }  # fmt: skip


def _degrees(place: Floats) -> dict[str, float]:
    return {"latitude": round(float(place[0]), 6), "longitude": round(float(place[1]), 6)}


def _late(late_ns: float) -> str:
    size = abs(late_ns)
    unit, factor = next(
        (unit, factor)
        for unit, factor in (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0))
        if size >= factor or factor == 1.0
    )
    return f"{size / factor:.3g} {unit} {'late' if late_ns > 0 else 'early'}"
