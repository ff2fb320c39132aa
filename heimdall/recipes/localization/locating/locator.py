"""From transmissions to answers: the classical one, the network's, and which of the two to believe."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization.evaluate import Trained
from heimdall.recipes.localization.locating import network as trained_network
from heimdall.recipes.localization.locating.answers import GroupFindings, LocationAnswer, too_few
from heimdall.recipes.localization.locating.beacons import ClockOffset, clock_offsets
from heimdall.recipes.localization.locating.checking import checked
from heimdall.recipes.localization.locating.classical import LEAST_HEARD, TimesOfArrival
from heimdall.recipes.localization.locating.geodesy import CurvedNetwork
from heimdall.recipes.localization.locating.layouts import match
from heimdall.recipes.localization.locating.reports import ReceiverReport, Transmission
from heimdall.recipes.localization.measurement import timing_error_ns
from heimdall.recipes.localization.settings import RadioSettings, Receiver

Floats = NDArray[np.float64]

AT_ONCE = 256
"""Transmissions that are located together; so many answers come in one go."""


class _SameReceivers(NamedTuple):
    """Transmissions that the same receivers report of, with their places in the file."""

    receivers: tuple[Receiver, ...]
    transmissions: list[Transmission]
    places: list[int]


class Locator:
    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.settings = trained.settings
        self.late_mean_ns = self.settings.late_mean_ns if self.settings.late_arrivals else 0.0

    def locate(self, transmissions: Iterable[Transmission]) -> Iterator[dict[str, Any]]:
        """One answer a transmission, in order. Beacons correct the clocks of all others, wherever they stand."""
        everything = list(transmissions)
        offsets = clock_offsets([one for one in everything if one.known], self._error_ns)
        following = iter(everything)
        while chunk := list(islice(following, AT_ONCE)):
            yield from self._located(chunk, offsets)

    def _located(self, chunk: list[Transmission], offsets: dict[str, ClockOffset]) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for group in _groups(chunk):
            found |= dict(zip(group.places, self._answers(group, offsets), strict=True))
        return [found[place] for place in range(len(chunk))]

    def _answers(self, group: _SameReceivers, offsets: dict[str, ClockOffset]) -> list[dict[str, Any]]:
        layout = match(self.settings, group.receivers)
        altitude = self.settings.ground_altitude_m + self.settings.transmitter_height_m
        network = CurvedNetwork.at(group.receivers, altitude, layout.origin)
        arrivals, strengths, synced = self._measured(group, network, offsets)
        enough = np.flatnonzero(arrivals.detected.sum(axis=1) >= LEAST_HEARD)
        answers = [too_few(sent, arrivals.detected[row]) for row, sent in enumerate(group.transmissions)]
        if len(enough):
            counted, fits, wrong = checked(arrivals.only(enough), self.late_mean_ns)
            estimates = trained_network.answers(
                self.trained, counted, strengths[enough], fits.positions_km[:, 0]
            )
            found = GroupFindings(
                self.trained, layout, arrivals.only(enough), counted, fits, wrong, estimates, synced
            )
            for place, row in enumerate(enough):
                answer = LocationAnswer(found, place, group.transmissions[row])
                answers[row] = answer.as_dict()
        return answers

    def _measured(
        self, group: _SameReceivers, network: CurvedNetwork, offsets: dict[str, ClockOffset]
    ) -> tuple[TimesOfArrival, Floats, bool]:
        """TimesOfArrival, what each receiver says of strengths, and whether beacons corrected the clocks."""
        reports = [one.reports for one in group.transmissions]
        detected = np.array([[report.detected for report in row] for row in reports])
        arrival = np.array([[report.arrival_ns for report in row] for row in reports])
        error = np.array([[self._error_ns(report) for report in row] for row in reports])
        strengths = np.array([[_strengths(report) for report in row] for row in reports], np.float64)
        known = np.array([receiver.name in offsets for receiver in group.receivers])
        clocks = [offsets.get(receiver.name, ClockOffset(0.0, 0.0)) for receiver in group.receivers]
        synced = known.sum() >= LEAST_HEARD
        if synced:
            detected = detected & known
            arrival = arrival - np.array([clock.offset_ns for clock in clocks])
            error = np.hypot(error, np.array([clock.error_ns for clock in clocks]))
        return TimesOfArrival(network, detected, arrival, error), strengths, bool(synced)

    def _error_ns(self, report: ReceiverReport) -> float:
        return error_ns(report, self.settings)


def error_ns(report: ReceiverReport, settings: RadioSettings) -> float:
    """As reported; else what the settings of the training make of the SNR; else the jitter of its clocks."""
    if report.error_ns is not None:
        return report.error_ns
    if report.snr_db is None:
        return max(settings.sync_jitter_ns, 1.0)
    found = timing_error_ns(
        np.array(report.snr_db),
        bandwidth_khz=settings.bandwidth_khz,
        integration_s=settings.integration_s,
        sync_jitter_ns=settings.sync_jitter_ns,
    )
    return max(float(found), 1.0)


def _groups(chunk: list[Transmission]) -> list[_SameReceivers]:
    """Reports of one transmission are put in the order of the receivers' names, so that more of them go together."""
    found: dict[tuple[Receiver, ...], _SameReceivers] = {}
    for place, sent in enumerate(chunk):
        reports = tuple(sorted(sent.reports, key=lambda report: report.receiver.name))
        receivers = tuple(report.receiver for report in reports)
        group = found.setdefault(receivers, _SameReceivers(receivers, [], []))
        group.transmissions.append(replace(sent, reports=reports))
        group.places.append(place)
    return list(found.values())


def _strengths(report: ReceiverReport) -> list[float]:
    values = (report.snr_db, report.rss_dbm, report.frequency_offset_hz)
    return [np.nan if value is None else value for value in values]
