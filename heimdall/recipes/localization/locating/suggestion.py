"""The settings of a training for the receivers that reports name: as far as the reports say them."""

from collections.abc import Iterable
from statistics import median
from typing import Any

import numpy as np

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from heimdall.recipes.localization.config import Config
from heimdall.recipes.localization.locating.reports import ReceiverReport, Transmission, receivers_of
from heimdall.recipes.localization.measurement import timing_error_ns
from heimdall.recipes.localization.settings import RadioSettings, Receiver

_KEPT = ("late_arrivals", "late_mean_ns", "integration_s", "path_loss", "detection_snr_db")


def suggested_config(transmissions: Iterable[Transmission], settings: RadioSettings) -> dict[str, Any]:
    """What differs from a training's defaults. settings: of the network that was asked, for what no report says.

    Raises InvalidInput where nothing can be trained for these receivers.
    """
    transmissions = list(transmissions)
    heard = [report for sent in transmissions for report in sent.reports if report.detected]
    receivers = receivers_of(transmissions)
    found: dict[str, Any] = {name: getattr(settings, name) for name in _KEPT}
    found["frequency_mhz"] = _usual(heard, "frequency_mhz", settings.frequency_mhz)
    found["bandwidth_khz"] = _usual(heard, "bandwidth_khz", settings.bandwidth_khz)
    found["sync_jitter_ns"] = _clock_error_ns(heard, found["bandwidth_khz"], settings)
    found["receivers"] = [receiver.model_dump(mode="json") for receiver in receivers]
    if set(receivers) != set(settings.receivers):
        found["ground_altitude_m"] = _ground_m(receivers)
    try:
        registry.checked(Config, found)
    except InvalidInput as error:
        raise InvalidInput({f"reports, {name}": said for name, said in error.fields.items()}) from None
    return {name: value for name, value in found.items() if value != _default(name)}


def _default(name: str) -> Any:
    default = Config.model_fields[name].default
    return [one.model_dump(mode="json") for one in default] if name == "receivers" else default


def _usual(heard: list[ReceiverReport], name: str, otherwise: float) -> float:
    values = [value for report in heard if (value := getattr(report, name)) is not None]
    return median(values) if values else otherwise


def _clock_error_ns(heard: list[ReceiverReport], bandwidth_khz: float, settings: RadioSettings) -> float:
    """What the stated errors hold beside the noise that follows from the SNR."""
    squares = [
        report.error_ns**2 - _thermal_ns(report, bandwidth_khz, settings) ** 2
        for report in heard
        if report.error_ns is not None
    ]
    return round(float(np.sqrt(max(median(squares), 1.0))), 1) if squares else settings.sync_jitter_ns


def _thermal_ns(report: ReceiverReport, bandwidth_khz: float, settings: RadioSettings) -> float:
    if report.snr_db is None:
        return 0.0
    found = timing_error_ns(
        np.array(report.snr_db),
        bandwidth_khz=bandwidth_khz,
        integration_s=settings.integration_s,
        sync_jitter_ns=0.0,
    )
    return float(found)


def _ground_m(receivers: tuple[Receiver, ...]) -> float:
    """Transmitters stand on the plain; that is about where the lowest receiver stands."""
    return min(max(min(receiver.altitude_m for receiver in receivers), 0.0), 4000.0)
