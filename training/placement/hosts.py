"""Jobs of several hosts: which hosts could take part, and whether enough of them can at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.models import GangMember, Node, TrainingJob
from training.placement.gangs import Room, open_attempts, rooms
from training.placement.slots import busy_slots, groups_for, live_nodes, takes_jobs


def hosts_for(gang: TrainingJob | Any, *, but: Node | None = None) -> list[Node]:
    """The live nodes that are large enough and take jobs."""
    nodes = [node for node in live_nodes() if takes_jobs(node) and groups_for(gang, node)]
    return [node for node in nodes if but is None or node.pk != but.pk]


def has_enough_hosts(gang: TrainingJob | Any) -> bool:
    """Whether it could ever start. A job of one host was compared with its host already."""
    return gang.num_hosts == 1 or len(hosts_for(gang)) >= gang.num_hosts


def others_are_ready(gang: TrainingJob | Any, node: Node) -> bool:
    """Whether enough other hosts have enough free slots now, or offer them already."""
    return _has_others(gang, node, lambda room: len(room.free) >= gang.fewest_devices)


def is_within_reach(gang: TrainingJob | Any, room: Room) -> bool:
    """Whether the gang can start as soon as all that fill its slots have made room, on as many hosts as it needs."""
    return room.is_within_reach(gang) and _has_others(
        gang, room.node, lambda other: other.is_within_reach(gang)
    )


def _has_others(gang: TrainingJob | Any, node: Node, can_serve: Callable[[Room], bool]) -> bool:
    if gang.num_hosts == 1:
        return True
    offered = set(GangMember.objects.filter(job=gang.pk, attempt=None).values_list("node_id", flat=True))
    busy, attempts = busy_slots(), open_attempts()

    def serves(other: Node) -> bool:
        groups = groups_for(gang, other)
        found = (room for room in rooms(other, busy, attempts) if room.group in groups)
        return other.pk in offered or any(can_serve(room) for room in found)

    return sum(serves(other) for other in hosts_for(gang, but=node)) >= gang.num_hosts - 1
