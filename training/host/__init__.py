"""What the processes of one host share beside the database.

locks.py                 the worker's lock and the slots'; who holds them
addresses.py             where ranks of several hosts meet
canary.py                the number of the last message that the cluster executed
processes.py             which processes live
supervisor_signals.py    what signals have asked of a supervisor
"""

from training.host.addresses import meeting_place
from training.host.canary import answer_canary, canary_answer
from training.host.locks import (
    FileLock,
    folder,
    hold_free_slot,
    hold_slots,
    slot_lock,
    supervisors,
    worker_lock,
)
from training.host.processes import is_alive, is_running, started_at
from training.host.supervisor_signals import stop_signals

__all__ = [
    "FileLock",
    "answer_canary",
    "canary_answer",
    "folder",
    "hold_free_slot",
    "hold_slots",
    "is_alive",
    "is_running",
    "meeting_place",
    "slot_lock",
    "started_at",
    "stop_signals",
    "supervisors",
    "worker_lock",
]
