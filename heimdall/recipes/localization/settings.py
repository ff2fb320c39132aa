"""What a radio scene is made of: the receivers and every setting of the generator. Imports no torch.

Both recipes of this domain share these fields: one writes samples to files, the other trains on them.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from typing_extensions import Self

from heimdall import RecipeConfig, in_group, refuse

MIN_RECEIVERS = 3
MAX_RECEIVERS = 15
FIELD_DEGREES = 4.0
"""A flat plane stands for the earth, which is good for this many degrees round the network's centre."""
HATA_MHZ = (150.0, 1500.0)  # where Hata (1980) holds


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("a name needs printable characters")
    return text


class Receiver(RecipeConfig):
    """A fixed receiver: WGS-84 degrees and metres above the sea."""

    model_config = ConfigDict(title="Receiver")

    name: Annotated[str, AfterValidator(_printable)] = Field(max_length=60, title="Name")
    latitude: float = Field(ge=-80, le=80, title="Latitude, degrees")
    longitude: float = Field(ge=-180, le=180, title="Longitude, degrees")
    altitude_m: float = Field(ge=-400, le=9000, title="Altitude, m")


NORTHERN_ITALY = (
    Receiver(name="Aquila di Giaveno", latitude=45.03, longitude=7.27, altitude_m=600.0),
    Receiver(name="Montanaro", latitude=45.234, longitude=7.857, altitude_m=300.0),
    Receiver(name="Torino", latitude=45.044, longitude=7.672, altitude_m=250.0),
    Receiver(name="Coazze", latitude=45.03, longitude=7.24, altitude_m=700.0),
    Receiver(name="Passo del Giovi", latitude=44.561, longitude=8.956, altitude_m=480.0),
    Receiver(name="Genova", latitude=44.395, longitude=8.956, altitude_m=100.0),
    Receiver(name="Milano-Baggio", latitude=45.478, longitude=9.123, altitude_m=120.0),
)
"""Seven public web receivers."""


def _number(default: float, least: float, most: float, group: str, title: str, description: str) -> Any:
    return Field(
        default, ge=least, le=most, title=title, description=description, json_schema_extra=in_group(group)
    )


def _choice(default: Any, group: str, title: str, description: str) -> Any:
    return Field(default, title=title, description=description, json_schema_extra=in_group(group))


def _drawn(default: int, title: str, description: str) -> Any:
    return Field(
        default,
        ge=MIN_RECEIVERS,
        le=MAX_RECEIVERS,
        title=title,
        description=description,
        json_schema_extra=in_group("Network"),
    )


DRAWN_FIELDS = ("fewest_receivers", "most_receivers", "narrowest_km", "widest_km")
"""They say how networks are drawn, and nothing where none is."""
_LATER_FIELDS = ("networks", *DRAWN_FIELDS)


class RadioSettings(RecipeConfig):
    """Everything that decides what a sample looks like, except the seed."""

    receivers: tuple[Receiver, ...] = Field(
        NORTHERN_ITALY,
        min_length=MIN_RECEIVERS,
        max_length=MAX_RECEIVERS,
        title="Receivers",
        description="3 to 15 receivers, each with name, latitude, longitude and altitude_m.",
        json_schema_extra=in_group("Network"),
    )
    networks: Literal["these", "random"] = _choice(
        "these",
        "Network",
        "Networks",
        "These receivers, or networks drawn at random round their middle, a new one every 32 samples: "
        "for a training that is to locate in networks that it never saw.",
    )
    fewest_receivers: int = _drawn(3, "Fewest receivers drawn", "Of a network drawn at random.")
    most_receivers: int = _drawn(15, "Most receivers drawn", "Of a network drawn at random.")
    narrowest_km: float = _number(
        50.0,
        5.0,
        400.0,
        "Network",
        "Narrowest network drawn, km",
        "Side of the box that its receivers are in.",
    )
    widest_km: float = _number(
        350.0,
        5.0,
        400.0,
        "Network",
        "Widest network drawn, km",
        "Sides are spread evenly in their logarithm.",
    )
    frequency_mhz: float = _number(
        145.0, 0.5, 3000.0, "Transmitter", "Frequency, MHz", "The carrier: 0.5 MHz to 3 GHz."
    )
    bandwidth_khz: float = _number(
        12.5,
        0.1,
        10_000.0,
        "Transmitter",
        "Channel width, kHz",
        "Sets the noise power and how sharp timing can be.",
    )
    power_dbm: float = _number(
        37.0, -30.0, 90.0, "Transmitter", "Power, dBm", "Mean transmit power; 37 dBm are 5 W."
    )
    power_spread_db: float = _number(
        3.0, 0.0, 20.0, "Transmitter", "Spread of the power, dB", "Standard deviation between transmitters."
    )
    ground_altitude_m: float = _number(
        200.0,
        0.0,
        4000.0,
        "Transmitter",
        "Ground, m above the sea",
        "Altitude of the plain that transmitters stand on.",
    )
    transmitter_height_m: float = _number(
        5.0, 1.0, 500.0, "Transmitter", "Antenna above the ground, m", "Height of the transmitting antenna."
    )
    outside_share: float = _number(
        0.3, 0.0, 1.0, "Area", "Share outside", "Share of the transmitters outside the box of the receivers."
    )
    outside_degrees: float = _number(
        0.5, 0.01, 2.0, "Area", "How far outside, degrees", "Width of the frame round the receivers' box."
    )
    path_loss: Literal["log_distance", "okumura_hata", "free_space"] = _choice(
        "log_distance",
        "Propagation",
        "Path loss",
        "A random exponent for each link, Okumura-Hata where it is valid (else the exponent), or free space.",
    )
    shadowing_db: float = _number(
        6.0, 0.0, 20.0, "Propagation", "Shadowing, dB", "Standard deviation of slow fading by the terrain."
    )
    shadowing_distance_km: float = _number(
        10.0,
        0.01,
        500.0,
        "Propagation",
        "Shadowing distance, km",
        "Receivers this far apart share 1/e of it.",
    )
    obstacle_mean_m: float = _number(
        -60.0,
        -1000.0,
        1000.0,
        "Propagation",
        "Obstacle, m over the line of sight",
        "Mean height of the one obstacle on a link; below 0 the link is free.",
    )
    obstacle_spread_m: float = _number(
        60.0, 0.0, 1000.0, "Propagation", "Spread of the obstacles, m", "Standard deviation of that height."
    )
    obstacle_correlation: float = _number(
        0.5,
        0.0,
        1.0,
        "Propagation",
        "Correlation of the obstacles",
        "How much the links of one transmitter share; 1 gives all of them the same obstacle.",
    )
    fading: bool = _choice(
        True,
        "Propagation",
        "Fast fading",
        "Rician within the radio horizon, Rayleigh beyond it, both with unit mean power.",
    )
    antennas: bool = _choice(
        False,
        "Receivers",
        "Antenna gains",
        "Give the receivers whips and some of them yagis; off means isotropic.",
    )
    detection_snr_db: float = _number(
        3.0, -30.0, 60.0, "Receivers", "Detection, dB", "A receiver reports what it hears with this SNR."
    )
    oscillator_ppm: float = _number(
        0.5,
        0.0,
        100.0,
        "Receivers",
        "Oscillators, ppm",
        "Standard deviation of the frequency errors of receivers and transmitters.",
    )
    sync_jitter_ns: float = _number(
        100.0,
        0.0,
        1_000_000.0,
        "Timing",
        "Clock jitter, ns",
        "Standard deviation between the receivers' clocks.",
    )
    integration_s: float = _number(
        1.0,
        0.0001,
        100.0,
        "Timing",
        "Integration time, s",
        "How long a receiver listens for one time of arrival.",
    )
    late_arrivals: bool = _choice(
        False,
        "Timing",
        "Late arrivals",
        "On obstructed links the signal comes late, and no receiver knows it.",
    )
    late_mean_ns: float = _number(
        300.0, 1.0, 100_000.0, "Timing", "Mean delay of late arrivals, ns", "Mean of the exponential delay."
    )
    min_receivers: int = Field(
        3,
        ge=MIN_RECEIVERS,
        le=MAX_RECEIVERS,
        title="Least receivers",
        description="A sample that fewer receivers report is refused and drawn again.",
        json_schema_extra=in_group("Filters"),
    )
    min_snr_db: float = _number(
        3.0,
        -30.0,
        60.0,
        "Filters",
        "Least SNR, dB",
        "A sample is refused unless the least number of receivers hear it with this SNR.",
    )
    max_dilution: float = _number(
        50.0,
        0.0,
        1_000_000.0,
        "Filters",
        "Largest dilution",
        "A sample with a larger dilution of precision (plane and clock) is refused; 0 lets all pass.",
    )

    @property
    def scene(self) -> "RadioSettings":
        """Only these fields, of a config that has more."""
        return RadioSettings(**{name: getattr(self, name) for name in RadioSettings.model_fields})

    @property
    def is_random(self) -> bool:
        return self.networks == "random"

    @property
    def columns(self) -> int:
        """How many receivers a sample has room for."""
        return self.most_receivers if self.is_random else len(self.receivers)

    @classmethod
    def scene_fields(cls) -> tuple[str, ...]:
        """Without those that say how networks are drawn."""
        return tuple(name for name in RadioSettings.model_fields if name not in _LATER_FIELDS)

    def as_said(self) -> dict[str, Any]:
        """As files name a scene. Those of before networks were drawn know nothing of it, and are the same scenes."""
        names = RadioSettings.model_fields if self.is_random else self.scene_fields()
        return self.model_dump(mode="json", include=set(names))

    @classmethod
    def of_file(cls, said: Mapping[str, Any]) -> "RadioSettings":
        """Raises KeyError for one that is missing, but for those that came later."""
        names = (name for name in cls.model_fields if name in said or name not in _LATER_FIELDS)
        return cls.model_validate_json(json.dumps({name: said[name] for name in names}))

    @model_validator(mode="after")
    def _networks_can_be_drawn(self) -> Self:
        if not self.is_random:
            for name in DRAWN_FIELDS:
                if getattr(self, name) != RadioSettings.model_fields[name].default:
                    refuse(name, f'{name} is of networks drawn at random; set networks to "random" with it.')
        elif self.fewest_receivers > self.most_receivers:
            refuse(
                "fewest_receivers",
                f"fewest_receivers must be at most most_receivers ({self.most_receivers}).",
            )
        elif self.narrowest_km > self.widest_km:
            refuse("narrowest_km", f"narrowest_km must be at most widest_km ({self.widest_km:g}).")
        elif self.min_receivers > self.fewest_receivers:
            refuse(
                "min_receivers",
                f"min_receivers must be at most fewest_receivers ({self.fewest_receivers}): some have no more.",
            )
        return self

    @model_validator(mode="after")
    def _the_scene_is_possible(self) -> Self:
        latitudes = [receiver.latitude for receiver in self.receivers]
        longitudes = [receiver.longitude for receiver in self.receivers]
        for values in (latitudes, longitudes):
            if not 0.01 <= max(values) - min(values) <= FIELD_DEGREES:
                refuse(
                    "receivers",
                    f"The receivers must span 0.01 to {FIELD_DEGREES:g} degrees of latitude and of "
                    "longitude; with all of them in line nothing can be located.",
                )
        if len(set(zip(latitudes, longitudes, strict=True))) < len(self.receivers):
            refuse("receivers", "Two receivers must not stand on the same spot.")
        if len({receiver.name for receiver in self.receivers}) < len(self.receivers):
            refuse("receivers", "Every receiver needs a name of its own.")
        if self.min_receivers > len(self.receivers):
            refuse(
                "min_receivers", f"min_receivers must be at most {len(self.receivers)}: so many there are."
            )
        if self.path_loss == "okumura_hata" and not HATA_MHZ[0] <= self.frequency_mhz <= HATA_MHZ[1]:
            refuse(
                "path_loss",
                f"okumura_hata holds from {HATA_MHZ[0]:g} to {HATA_MHZ[1]:g} MHz; choose another.",
            )
        return self
