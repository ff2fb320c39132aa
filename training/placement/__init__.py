"""Which slot may run what, in which order, and why a queued job still waits.

order.py      the queue and its order; what holds a job back whatever node is free
slots.py      what a slot may run, which slots are free, which nodes live
reasons.py    why a queued job waits, told from the same expressions
forecast.py   where a job would run, and about when
"""

from training.placement.forecast import Forecast, forecast
from training.placement.order import BACKS_OFF, IN_ORDER, IN_QUEUE, claimable_jobs
from training.placement.reasons import FARTHEST_AHEAD, REASON_CODES, Reason, waiting_reasons
from training.placement.slots import (
    NEEDS_NO_GPU,
    busy_slots,
    environments_known,
    fits,
    free_slots,
    live_nodes,
    needs_gpu,
    silent_after,
    slots_for,
    takes_jobs,
)

__all__ = [
    "BACKS_OFF",
    "FARTHEST_AHEAD",
    "IN_ORDER",
    "IN_QUEUE",
    "NEEDS_NO_GPU",
    "REASON_CODES",
    "Forecast",
    "Reason",
    "busy_slots",
    "claimable_jobs",
    "environments_known",
    "fits",
    "forecast",
    "free_slots",
    "live_nodes",
    "needs_gpu",
    "silent_after",
    "slots_for",
    "takes_jobs",
    "waiting_reasons",
]
