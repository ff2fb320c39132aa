"""How many devices a job asks for, as its config or its program says it. Nothing here imports anything else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ELASTIC = "elastic"
MAX_DEVICES = 64  # of one host
LOGICAL_RANKS = 4  # where an elastic config names no other number


@dataclass(frozen=True)
class DeviceDemand:
    """How many devices a job takes on each of its hosts."""

    fewest: int = 1
    most: int = 1
    """As many as `fewest`, but for an elastic job: that takes any power of two between them."""
    hosts: int = 1

    @property
    def most_ranks(self) -> int:
        return self.most * self.hosts

    def fitting(self, free: int) -> int:
        """How many of so many free devices of a host it takes; 0 where they are too few."""
        if free < self.fewest:
            return 0
        return self.most if free >= self.most else 1 << (free.bit_length() - 1)


def device_demand(config: Mapping[str, Any]) -> DeviceDemand:
    """What a recipe's config or a program asks for; one device where it says nothing of it."""
    devices, hosts = config.get("devices", 1), config.get("hosts", 1)
    if devices == ELASTIC:
        return DeviceDemand(1, config.get("logical_ranks", LOGICAL_RANKS))
    return DeviceDemand(devices, devices, hosts)
