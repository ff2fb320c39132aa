"""The verbs: everything that changes a job. No other module writes a status, a stop, an attempt or a pointer.

transition.py     the one conditional UPDATE and its event, which every verb goes through
clock.py          times in the database's clock

verbs.py          what people and programs ask for: submit, pause, resume, restart, cancel, discard, delete
many.py           a verb asked of many jobs at once
forks.py          new jobs from others: clone, extend, fork
attempts.py       what a supervisor does with the attempt it holds: claim, beat, land, complete, fail, crash
lost.py           what becomes of attempts whose supervisor is gone: reap

datasets.py       synthetic data, which grow shard by shard
blocks.py         metrics folded together, for long curves
bundles.py        models that come from another Heimdall
nodes.py          the hosts' rows: register, beat, and what people ask: drain, undrain, remove
hosts.py          which hosts may work for this installation, and what waits for them
upkeep.py         retention of checkpoints, orphaned files
notifications.py  who is told of what: watches and subscriptions
outbox.py         messages, written with the transition that they tell of and sent later
saved_views.py    lists of jobs that people gave names to
"""

from training.policy import may_change_dataset as may_change
from training.services.attempts import (
    Landing,
    News,
    Wish,
    beat,
    claim,
    complete,
    crash,
    fail,
    land,
    note,
    note_started,
    quarantine,
    record_checkpoint,
    release,
    wish,
)
from training.services.bundles import import_bundle
from training.services.datasets import (
    dataset_named,
    delete_dataset,
    finished_shards,
    record_shard,
    require_dataset,
    visible_datasets,
)
from training.services.forks import about_the_schedule, clone, extend, fork, why_not_extendable
from training.services.hosts import NotOurs, jobs_for, join_installation, pass_on, waiting_jobs, wake
from training.services.lost import expired_attempts, orphaned_attempts, reap
from training.services.many import MOST_AT_ONCE, Asked, ask, ask_each
from training.services.nodes import NODE_VERBS, beat_node, drain, register_node, remove, set_draining, undrain
from training.services.notifications import (
    change_subscription,
    renew_secret,
    send_again,
    send_test,
    subscribe,
    subscription_named,
    subscriptions_of,
    unsubscribe,
    unwatch,
    watch,
)
from training.services.outbox import claim_deliveries, forget_deliveries, note_delivered, note_failed
from training.services.saved_views import change_view, delete_view, save_view, visible_views
from training.services.transition import Result
from training.services.upkeep import (
    delete_orphaned_files,
    preempt,
    retire_all_checkpoints,
    retire_checkpoints,
)
from training.services.verbs import (
    VERBS,
    cancel,
    delete,
    discard,
    edit,
    extend_dataset,
    pause,
    pin,
    restart,
    resume,
    submit,
)

__all__ = [
    "MOST_AT_ONCE",
    "NODE_VERBS",
    "VERBS",
    "Asked",
    "Landing",
    "News",
    "NotOurs",
    "Result",
    "Wish",
    "about_the_schedule",
    "ask",
    "ask_each",
    "beat",
    "beat_node",
    "cancel",
    "change_subscription",
    "change_view",
    "claim",
    "claim_deliveries",
    "clone",
    "complete",
    "crash",
    "dataset_named",
    "delete",
    "delete_dataset",
    "delete_orphaned_files",
    "delete_view",
    "discard",
    "drain",
    "edit",
    "expired_attempts",
    "extend",
    "extend_dataset",
    "fail",
    "finished_shards",
    "forget_deliveries",
    "fork",
    "import_bundle",
    "jobs_for",
    "join_installation",
    "land",
    "may_change",
    "note",
    "note_delivered",
    "note_failed",
    "note_started",
    "orphaned_attempts",
    "pass_on",
    "pause",
    "pin",
    "preempt",
    "quarantine",
    "reap",
    "record_checkpoint",
    "record_shard",
    "register_node",
    "release",
    "remove",
    "renew_secret",
    "require_dataset",
    "restart",
    "resume",
    "retire_all_checkpoints",
    "retire_checkpoints",
    "save_view",
    "send_again",
    "send_test",
    "set_draining",
    "submit",
    "subscribe",
    "subscription_named",
    "subscriptions_of",
    "undrain",
    "unsubscribe",
    "unwatch",
    "visible_datasets",
    "visible_views",
    "waiting_jobs",
    "wake",
    "watch",
    "why_not_extendable",
    "wish",
]
