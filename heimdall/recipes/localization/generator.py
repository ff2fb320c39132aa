"""Samples of a radio scene. Sample i is a pure function of the settings, the seed and i.

A sample that the filters refuse is drawn again with the next try, so sample i is the first accepted try of
index i: every index gives a sample, and none depends on another, on the block it was made in or on who made
it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall.recipes.localization import bounds, counter, propagation
from heimdall.recipes.localization.geometry import Links, Network, add_rows, dilution
from heimdall.recipes.localization.measurement import KM_PER_NS, noise_floor_dbm, timing_error_ns
from heimdall.recipes.localization.receivers import hardware
from heimdall.recipes.localization.settings import RadioSettings

VERSION = 1
"""Goes up whenever equal settings give other samples."""
BLOCK = 1024
MAX_TRIES = 500
REASONS = ("too_few_receivers", "too_weak", "too_diluted")
"""Why samples are refused: fewer receivers than asked for, heard too weakly, or standing badly round the
transmitter."""

RICIAN_K_DB = (6.0, 10.0)  # the direct wave over the scattered ones, where there is a line of sight
EXPONENTS = (2.0, 3.5)  # of distance: free space to suburbs (Rappaport 2002, table 4.2)
OBSTACLE_AT = (0.2, 0.8)  # of the way from the transmitter to the receiver
# Counters that a sample uses, each good for four random numbers: for the sample itself, and for each link.
_SAMPLE_PLACES = 2
_LINK_PLACES = 3

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray]


@dataclass(frozen=True)
class Field:
    dtype: type
    per_receiver: bool
    about: str


FIELDS: Mapping[str, Field] = {
    "position_km": Field(np.float64, False, "true east and north of the network's centre, two columns, km"),
    "power_dbm": Field(np.float32, False, "true transmit power, dBm"),
    "reference": Field(np.int8, False, "the receiver that arrivals are counted from: the strongest one"),
    "dilution": Field(
        np.float32, False, "dilution of precision of two dimensions and clock over the detected"
    ),
    "bound_m": Field(
        np.float32, False, "Cramer-Rao bound from timing, sqrt(trace), m; late arrivals left out"
    ),
    "detected": Field(np.bool_, True, "whether the receiver reports at all; the rest is 0 where it does not"),
    "snr_db": Field(np.float32, True, "signal to noise ratio, dB"),
    "rss_dbm": Field(np.float32, True, "received power, dBm"),
    "frequency_offset_hz": Field(np.float32, True, "measured less nominal frequency, Hz"),
    "arrival_ns": Field(np.float32, True, "time of arrival less that of the reference, ns"),
    "error_ns": Field(np.float32, True, "standard deviation of the time of arrival, ns"),
    "late_ns": Field(np.float32, True, "true excess delay, ns; no receiver reports it"),
    "obstructed": Field(
        np.bool_, True, "whether something stands in the line of sight; no receiver reports it"
    ),
}


PLACES: Mapping[str, Field] = {
    "east_km": Field(np.float32, True, "where the receiver stands, east of its network's centre, km"),
    "north_km": Field(np.float32, True, "north of it, km"),
    "rise_km": Field(np.float32, True, "above the transmitter's antenna, km"),
}
"""More fields of samples whose networks are drawn at random; columns without a receiver detect nothing."""


class TooStrict(ValueError):
    """The filters refuse every sample; says which ones."""


@dataclass(frozen=True)
class SampleBlock:
    arrays: Arrays
    refused: dict[str, int]
    """How many tries were refused on the way, by reason."""


class Generator:
    def __init__(self, settings: RadioSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.network = Network.of(settings)
        self._hardware = hardware(settings)
        self.noise_dbm = noise_floor_dbm(settings.bandwidth_khz, self._hardware.noise_figure_db)[:, None]
        self._shadowing = propagation.shadowing_root(
            self.network.positions_km, settings.shadowing_distance_km
        )

    def samples(self, start: int, stop: int) -> SampleBlock:
        """Samples start to stop, without stop."""
        return self.take(np.arange(start, stop, dtype=np.uint64))

    def take(self, indices: NDArray[np.integer]) -> SampleBlock:
        """The samples of these indices, in their order."""
        indices = np.asarray(indices).astype(np.uint64)
        arrays = empty(len(indices), self.network.size)
        refused: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        for chosen in _blocks(len(indices)):
            self._fill(arrays, chosen, indices, refused)
        return SampleBlock(arrays, dict(refused))

    def _fill(self, arrays: Arrays, chosen: NDArray, indices: NDArray, refused: Counter[str]) -> None:
        for attempt in range(MAX_TRIES):
            made, reasons = self._try(indices[chosen], attempt)
            accepted = reasons == len(REASONS)
            for name, values in made.items():
                arrays[name][chosen[accepted]] = values[accepted]
            counts = np.bincount(reasons, minlength=len(REASONS) + 1)
            refused.update({reason: int(count) for reason, count in zip(REASONS, counts, strict=False)})
            chosen = chosen[~accepted]
            if not len(chosen):
                return
        counts_text = ", ".join(f"{reason.replace('_', ' ')}: {count}" for reason, count in refused.items())
        sample = int(indices[chosen[0]])
        raise TooStrict(
            f"The filters refused {MAX_TRIES} tries of sample {sample}; refused so far: {counts_text}."
        )

    def accepted_share(self, indices: NDArray[np.integer], attempts: int) -> float:
        """Of the first tries of these samples."""
        tried = [self._try(indices.astype(np.uint64), attempt)[1] for attempt in range(attempts)]
        return float(np.mean(np.stack(tried) == len(REASONS)))

    def _try(self, indices: NDArray, attempt: int) -> tuple[Arrays, NDArray[np.intp]]:
        """One candidate for each index, and the number of the reason that refuses it (or the number of
        reasons)."""
        settings, count = self.settings, self.network.size
        places = range(_SAMPLE_PLACES + _LINK_PLACES * count)
        draws = counter.uniforms(self.seed, indices, attempt, places)
        own = draws[: 4 * _SAMPLE_PLACES]
        each = draws[4 * _SAMPLE_PLACES :].reshape(count, 4 * _LINK_PLACES, len(indices)).transpose(1, 0, 2)
        each = np.ascontiguousarray(each)

        power, common = counter.normals(own[4], own[5])
        carrier, _ = counter.normals(own[6], own[7])
        shadow, obstacle = counter.normals(each[4], each[5])
        real, imaginary = counter.normals(each[6], each[7])
        late, jitter = each[3], counter.normals(each[8], each[9])[0]

        positions = self._positions(own[:4])
        links = self.network.links(positions)
        share = between(OBSTACLE_AT, each[1])
        nu = self.obstruction(links, share, common, obstacle)
        sent = settings.power_dbm + settings.power_spread_db * power
        rss = sent - self.path_loss(links, each[0]) - propagation.knife_edge_loss(nu)
        rss -= settings.shadowing_db * propagation.correlate(self._shadowing, shadow)
        if settings.fading:
            rss += propagation.to_db(propagation.fading_power(self.rician_k(links, each[2]), real, imaginary))
        if settings.antennas:
            rss += self._hardware.antennas.towards(
                np.degrees(np.arctan2(-links.east_km, -links.north_km)) + 180.0
            )
        snr = rss - self.noise_dbm
        detected = snr >= settings.detection_snr_db

        error = timing_error_ns(
            snr,
            bandwidth_khz=settings.bandwidth_khz,
            integration_s=settings.integration_s,
            sync_jitter_ns=settings.sync_jitter_ns,
        )
        excess = np.zeros_like(snr)
        if settings.late_arrivals:
            excess = np.where(nu > 0.0, -settings.late_mean_ns * np.log(late), 0.0)
        arrival = links.range_km / KM_PER_NS + excess + error * jitter
        reference = np.argmax(np.where(detected, snr, -np.inf), axis=0)
        arrival -= np.take_along_axis(arrival, reference[None], axis=0)

        offset = (
            settings.oscillator_ppm * settings.frequency_mhz * (carrier - self._hardware.oscillator[:, None])
        )
        offset += error_of_frequency_hz(snr, settings.integration_s) * counter.normals(each[10], each[11])[0]

        diluted = dilution(links, detected).total
        bound = bounds.bound_m(bounds.timing_information(links, error, detected))
        made = {
            "position_km": positions,
            "power_dbm": sent,
            "reference": reference,
            "dilution": diluted,
            "bound_m": bound,
            "detected": detected.T,
        }
        reported = {
            "snr_db": snr,
            "rss_dbm": rss,
            "frequency_offset_hz": offset,
            "arrival_ns": arrival,
            "error_ns": error,
            "late_ns": excess,
            "obstructed": nu > 0.0,
        }
        made |= {name: np.where(detected, values, 0).T for name, values in reported.items()}
        return made, self._reasons(snr, detected, diluted)

    def _positions(self, draws: Floats) -> Floats:
        """East and north, shape (samples, 2): in the receivers' box, or in the frame round it."""
        settings = self.settings
        low, high = self.network.box_km
        size, frame = high - low, self.network.frame_km(settings.outside_degrees)
        outside = draws[0] < settings.outside_share
        inside = [low[axis] + size[axis] * draws[1 + axis] for axis in (0, 1)]

        # The frame is two tall strips (west and east) and two short ones; each half is one wide strip cut in
        # the box.
        tall = 2.0 * frame[0] * (size[1] + 2.0 * frame[1])
        short = 2.0 * frame[1] * size[0]
        in_tall = draws[3] < tall / (tall + short)
        across = [
            _skip(draws[1 + axis] * 2.0 * frame[axis] - frame[axis], low[axis], high[axis]) for axis in (0, 1)
        ]
        along_north = low[1] - frame[1] + (size[1] + 2.0 * frame[1]) * draws[2]
        east = np.where(outside, np.where(in_tall, across[0], inside[0]), inside[0])
        north = np.where(outside, np.where(in_tall, along_north, across[1]), inside[1])
        return np.stack([east, north], axis=1)

    def obstruction(self, links: Links, share: Floats, common: Floats, own: Floats) -> Floats:
        """The knife-edge parameter of the one obstacle of each link: terrain, or the earth itself where it
        is higher."""
        settings = self.settings
        shared = np.sqrt(settings.obstacle_correlation) * common
        height = shared + np.sqrt(1.0 - settings.obstacle_correlation) * own
        height = settings.obstacle_mean_m + settings.obstacle_spread_m * height
        distance = np.maximum(links.ground_km, 0.001)
        earth = propagation.smooth_earth_over_sight_m(
            distance, share, self.network.transmitter_altitude_m, self.network.altitudes_m[:, None]
        )
        return propagation.knife_edge_parameter(
            settings.frequency_mhz, np.maximum(height, earth), distance * share, distance * (1.0 - share)
        )

    def path_loss(self, links: Links, draw: Floats) -> Floats:
        settings = self.settings
        if settings.path_loss == "free_space":
            return propagation.free_space_loss(settings.frequency_mhz, links.range_km)
        loss = propagation.log_distance_loss(settings.frequency_mhz, links.range_km, between(EXPONENTS, draw))
        if settings.path_loss == "okumura_hata":
            base = (self.network.altitudes_m - settings.ground_altitude_m)[:, None]
            mobile = settings.transmitter_height_m
            holds = propagation.okumura_hata_holds(links.range_km, base, mobile)
            base, distance = np.maximum(base, 1.0), np.maximum(links.range_km, 0.001)
            hata = propagation.okumura_hata_loss(settings.frequency_mhz, distance, base, mobile)
            loss = np.where(holds, hata, loss)
        return loss

    def rician_k(self, links: Links, draw: Floats) -> Floats:
        horizon = propagation.radio_horizon_km(self.network.transmitter_altitude_m, self.network.altitudes_m)
        near = links.ground_km <= horizon[:, None]
        return np.where(near, propagation.from_db(between(RICIAN_K_DB, draw)), 0.0)

    def _reasons(self, snr: Floats, detected: NDArray[np.bool_], diluted: Floats) -> NDArray[np.intp]:
        settings = self.settings
        few = add_rows(detected.astype(np.intp)) < settings.min_receivers
        weak = add_rows((snr >= settings.min_snr_db).astype(np.intp)) < settings.min_receivers
        bad = ~np.isfinite(diluted) | (diluted > (settings.max_dilution or np.inf))
        return np.select([few, weak, bad], [0, 1, 2], default=len(REASONS))


def error_of_frequency_hz(snr_db: Floats, integration_s: float) -> Floats:
    """sqrt(6 / SNR) / (2 pi T), Hz: the bound of a tone's frequency with this SNR after the whole time T (Rife and
    Boorstyn 1974, many samples).

    The SNR is that of the channel, so this is sqrt(T B) above the bound of a bare carrier: what is heard is
    modulated. Either way it is far below the oscillators' error.
    """
    return np.sqrt(6.0 / propagation.from_db(snr_db)) / (2.0 * np.pi * integration_s)


def fields_of(settings: RadioSettings) -> Mapping[str, Field]:
    return {**FIELDS, **PLACES} if settings.is_random else FIELDS


def empty(samples: int, receivers: int, fields: Mapping[str, Field] = FIELDS) -> Arrays:
    """Arrays for so many samples, as the fields say."""
    shapes = {True: (samples, receivers), False: (samples,)}
    found: Arrays = {
        name: np.zeros(shapes[field.per_receiver], field.dtype) for name, field in fields.items()
    }
    found["position_km"] = np.zeros((samples, 2))
    return found


def _blocks(count: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, count, BLOCK):
        yield np.arange(start, min(start + BLOCK, count))


def between(bounds: tuple[float, float], share: Floats) -> Floats:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _skip(offsets: Floats, low: float, high: float) -> Floats:
    """Negative offsets count down from `low`, the others up from `high`."""
    return np.where(offsets < 0.0, low, high) + offsets
