"""The reads that doors share. How lists of jobs are found is told in docs/lists.md.

jobs.py history.py datasets.py code.py    one job, its history, datasets, programs' code: as every door shows them
job_list.py conditions.py keyset.py rows.py full_text.py    lists: planner, SQL, keyset pagination, rows, search
columns.py column_order.py        columns of a list that another table holds: filters, values and orders by them
filters.py bulk_selection.py      what a list was asked for, and the jobs of a verb for many
status_intervals.py activity.py curves.py sparks.py    timelines, activity, and curves in little room
dashboard.py nodes.py notifications.py metrics.py counters.py    the other subjects
"""

from training.queries.datasets import dataset_dicts, dataset_summary
from training.queries.history import (
    artifact_dict,
    attempt_dict,
    bad_loss,
    epoch_dict,
    epochs_of,
    event_dict,
    events_after,
    log_after,
    newest_events,
    newest_log,
    newest_steps,
    step_dict,
    steps_after,
    why_not_stored,
)
from training.queries.jobs import (
    EVIDENCE,
    FIELDS,
    LIST_LIMIT,
    PROMISES,
    available_verbs,
    checkpoint_dict,
    dicts,
    eta_seconds,
    evidence,
    headline,
    is_training,
    job_dict,
    last_job_of,
    progress_percent,
    promise,
    shape,
    with_relations,
)
from training.queries.replays import EVIDENCE_MEANS, evidence_words, has_chain, replay_dict
from training.queries.values import iso

__all__ = [
    "EVIDENCE",
    "EVIDENCE_MEANS",
    "FIELDS",
    "LIST_LIMIT",
    "PROMISES",
    "artifact_dict",
    "attempt_dict",
    "available_verbs",
    "bad_loss",
    "checkpoint_dict",
    "dataset_dicts",
    "dataset_summary",
    "dicts",
    "epoch_dict",
    "epochs_of",
    "eta_seconds",
    "event_dict",
    "events_after",
    "evidence",
    "evidence_words",
    "has_chain",
    "headline",
    "is_training",
    "iso",
    "job_dict",
    "last_job_of",
    "log_after",
    "newest_events",
    "newest_log",
    "newest_steps",
    "progress_percent",
    "promise",
    "replay_dict",
    "shape",
    "step_dict",
    "steps_after",
    "why_not_stored",
    "with_relations",
]
