"""Which slot may run what, in which order, and why a queued job still waits.

order.py      the queue and its order; what holds a job back whatever node is free
slots.py      what a slot may run, which slots are free, which nodes live
gangs.py      jobs that need several slots at once, and who may use a slot until they start
hosts.py      jobs of several hosts: whether enough of them can take part at once
reasons.py    why a queued job waits, told from the same expressions
forecast.py   where a job would run, and about when
"""

from training.placement.forecast import Forecast, forecast
from training.placement.gangs import (
    GIVES_WAY,
    Room,
    gives_way,
    is_making_room,
    left_for_it,
    num_ranks,
    num_slots,
    one_free_slot_of_each_kind,
    open_attempts,
    room_around,
    rooms,
)
from training.placement.hosts import (
    has_enough_hosts,
    hosts_for,
    is_within_reach,
    others_are_ready,
)
from training.placement.order import (
    BACKS_OFF,
    IN_ORDER,
    IN_QUEUE,
    claimable_jobs,
    goes_before,
    waiting_gangs,
)
from training.placement.reasons import FARTHEST_AHEAD, REASON_CODES, Reason, waiting_reasons
from training.placement.slots import (
    NEEDS_NO_GPU,
    busy_slots,
    environments_known,
    fits,
    free_slots,
    groups_for,
    has_gpu,
    live_nodes,
    most_slots,
    needs_gpu,
    silent_after,
    slot_groups,
    slots_for,
    takes_jobs,
)

__all__ = [
    "BACKS_OFF",
    "FARTHEST_AHEAD",
    "GIVES_WAY",
    "IN_ORDER",
    "IN_QUEUE",
    "NEEDS_NO_GPU",
    "REASON_CODES",
    "Forecast",
    "Reason",
    "Room",
    "busy_slots",
    "claimable_jobs",
    "environments_known",
    "fits",
    "forecast",
    "free_slots",
    "gives_way",
    "goes_before",
    "groups_for",
    "has_enough_hosts",
    "has_gpu",
    "hosts_for",
    "is_making_room",
    "is_within_reach",
    "left_for_it",
    "live_nodes",
    "most_slots",
    "needs_gpu",
    "num_ranks",
    "num_slots",
    "one_free_slot_of_each_kind",
    "open_attempts",
    "others_are_ready",
    "room_around",
    "rooms",
    "silent_after",
    "slot_groups",
    "slots_for",
    "takes_jobs",
    "waiting_gangs",
    "waiting_reasons",
]
