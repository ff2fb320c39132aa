"""The verbs: everything that changes a job. No other module writes a status, a stop, an attempt or a pointer.

transition.py     the one conditional UPDATE and its event, which every verb goes through
rollback.py       what changes of a job that is taken back to a checkpoint, or to its beginning
clock.py          times in the database's clock
storable.py       what the databases can store: no NUL, no NaN, no more than fits

A job, by what people and programs ask of it:
submitting.py     new jobs
programs.py       scripts and commands in the place of recipes, and their code
exactness.py      what checks have shown of scripts
chain.py          the links between a job's states, stored or only hashed
replays.py        stretches that are trained again on idle slots, and what came out
certificates.py   the signed document of a job, and the address under which it is public
signing.py        the key that it is signed with
checking.py       jobs that check whether a script is resumed exactly
secrets.py        values that a program alone is to see
forks.py          new jobs from others: clone, fork
extending.py      more of the same: epochs of a training, samples of a dataset
limits.py         how much one person may ask for and keep
dry_run.py        what a submission would make
external.py       jobs that are trained somewhere else and only report here
editing.py        name, description, tags, priority, pool, pinned checkpoints
verbs.py          pause, resume, restart, cancel, discard, delete; and preempt, for the scheduler
resuming.py       how a stopped job goes back into the queue
deleting.py       how a finished job goes, with its history and its files
counters.py       what deleted jobs had counted for /metrics
many.py           a verb asked of many jobs at once

An attempt, by its moments:
claiming.py       the best queued job for a slot, and for those of its other ranks
gathering.py      how the hosts of one job come together, and say that they live
beginning.py      the job runs, and its slots are held
leases.py         the lease and its fenced UPDATE
reporting.py      what a supervisor reports while it trains, and what it is asked to do
metrics.py        rows of metrics, and blocks of them folded together
column_values.py  what jobs are filtered and sorted by: values of configs, and of metrics
bad_losses.py     one event where the loss is not a number any more
checkpoints.py    a stored file becomes the job's checkpoint; a bad one is set aside
landing.py        landed, completed, handed back
failing.py        failed, crashed
reaping.py        attempts whose supervisor is gone
retention.py      which checkpoints are kept, and files that no row names

Around them:
datasets.py       synthetic data, which grow shard by shard
bundles.py        models that come from another Heimdall
locating.py       where transmitters are, by a completed localization job
nodes.py          the hosts' rows: register, beat, and what people ask: drain, undrain, remove
installation.py   which hosts may work for this installation
waking.py         who is woken for the jobs that wait
notifications.py  who is told of what: watches and subscriptions
outbox.py         messages, written with the transition that they tell of and sent later
resources.py      what trainings use of their machine, over time
saved_views.py    lists of jobs that people gave names to
layouts.py        how people arrange their pages
sweeps.py         searches over settings: made, steered as a whole, and given their jobs
tokens.py         what programs log in with: made, looked up by its hash, revoked
idempotency.py    a request that is sent twice is done once
"""

from training.services.beginning import Supervisor
from training.services.bundles import import_bundle
from training.services.certificates import certificate, name_of, publish, published, unpublish
from training.services.checking import check, why_not_checkable
from training.services.checkpoints import quarantine, record_checkpoint
from training.services.claiming import SlotsNeeded, claim, has_work_for
from training.services.datasets import (
    delete_dataset,
    finished_shards,
    record_shard,
    require_dataset,
    visible_datasets,
)
from training.services.dry_run import try_submission
from training.services.editing import edit, edit_version, pin
from training.services.exactness import check_word, is_check
from training.services.extending import about_the_schedule, extend, extend_dataset, why_not_extendable
from training.services.external import (
    OutsideReport,
    begin_external,
    end_external,
    issue_token,
    report_external,
)
from training.services.failing import crash, fail, how_it_died
from training.services.forks import clone, fork
from training.services.gathering import (
    OFFER_SECONDS,
    LostMember,
    beat_member,
    forget_offers,
    leave_gang,
    look,
    lose_member,
    lost_member,
    withdraw,
)
from training.services.idempotency import answer_once, answer_slow_request_once, forget_answers
from training.services.installation import NotOurs, join_installation
from training.services.landing import Landing, complete, land, release
from training.services.layouts import keep_layout, layout_of
from training.services.limits import why_not_stored
from training.services.locating import MOST_REPORT_BYTES, can_locate, locate, suggest_config, train_for
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
from training.services.programs import delete_unused_code, is_program, keep_code, require_programs
from training.services.reaping import expired_attempts, orphaned_attempts, reap
from training.services.replays import (
    claim_replay,
    finish_replay,
    give_replay_back,
    is_forged,
    keep_replay,
    segments,
    verify,
    waiting_replays,
    why_not_verifiable,
)
from training.services.reporting import (
    Report,
    StopRequest,
    add_member_log,
    beat,
    note,
    note_started,
    num_log_characters,
    read_stop_request,
)
from training.services.resources import fold_resources, sample_resources
from training.services.retention import delete_orphaned_files, retire_all_checkpoints, retire_checkpoints
from training.services.saved_views import change_view, delete_view, save_view, visible_views
from training.services.secrets import SecretsLost, opened
from training.services.signing import rotate_signing_key, signing_key
from training.services.submitting import submit
from training.services.sweeps import (
    SWEEPER,
    add_member,
    cancel_sweep,
    delete_sweep,
    extend_sweep,
    finish_sweep,
    hold_sweep,
    let_go_of_sweep,
    may_steer,
    next_rung_of,
    pause_sweep,
    rest_at_rung,
    rests_at_rung,
    resume_sweep,
    submit_sweep,
    sweep_named,
    verbs_of_sweep,
    visible_sweeps,
)
from training.services.transition import Result
from training.services.verbs import (
    VERBS,
    cancel,
    delete,
    discard,
    pause,
    preempt,
    resize,
    restart,
    resume,
)
from training.services.waking import jobs_for, pass_on, waiting_jobs, wake

__all__ = [
    "MOST_AT_ONCE",
    "MOST_REPORT_BYTES",
    "NODE_VERBS",
    "OFFER_SECONDS",
    "SWEEPER",
    "VERBS",
    "Asked",
    "Landing",
    "LostMember",
    "NotOurs",
    "OutsideReport",
    "Report",
    "Result",
    "SecretsLost",
    "SlotsNeeded",
    "StopRequest",
    "Supervisor",
    "about_the_schedule",
    "add_member",
    "add_member_log",
    "answer_once",
    "answer_slow_request_once",
    "ask",
    "ask_each",
    "beat",
    "beat_member",
    "beat_node",
    "begin_external",
    "can_locate",
    "cancel",
    "cancel_sweep",
    "certificate",
    "change_subscription",
    "change_view",
    "check",
    "check_word",
    "claim",
    "claim_deliveries",
    "claim_replay",
    "clone",
    "complete",
    "crash",
    "delete",
    "delete_dataset",
    "delete_orphaned_files",
    "delete_sweep",
    "delete_unused_code",
    "delete_view",
    "discard",
    "drain",
    "edit",
    "edit_version",
    "end_external",
    "expired_attempts",
    "extend",
    "extend_dataset",
    "extend_sweep",
    "fail",
    "finish_replay",
    "finish_sweep",
    "finished_shards",
    "fold_resources",
    "forget_answers",
    "forget_deliveries",
    "forget_offers",
    "fork",
    "give_replay_back",
    "has_work_for",
    "hold_sweep",
    "how_it_died",
    "import_bundle",
    "is_check",
    "is_forged",
    "is_program",
    "issue_token",
    "jobs_for",
    "join_installation",
    "keep_code",
    "keep_layout",
    "keep_replay",
    "land",
    "layout_of",
    "leave_gang",
    "let_go_of_sweep",
    "locate",
    "look",
    "lose_member",
    "lost_member",
    "may_steer",
    "name_of",
    "next_rung_of",
    "note",
    "note_delivered",
    "note_failed",
    "note_started",
    "num_log_characters",
    "opened",
    "orphaned_attempts",
    "pass_on",
    "pause",
    "pause_sweep",
    "pin",
    "preempt",
    "publish",
    "published",
    "quarantine",
    "read_stop_request",
    "reap",
    "record_checkpoint",
    "record_shard",
    "register_node",
    "release",
    "remove",
    "renew_secret",
    "report_external",
    "require_dataset",
    "require_programs",
    "resize",
    "rest_at_rung",
    "restart",
    "rests_at_rung",
    "resume",
    "resume_sweep",
    "retire_all_checkpoints",
    "retire_checkpoints",
    "rotate_signing_key",
    "sample_resources",
    "save_view",
    "segments",
    "send_again",
    "send_test",
    "set_draining",
    "signing_key",
    "submit",
    "submit_sweep",
    "subscribe",
    "subscription_named",
    "subscriptions_of",
    "suggest_config",
    "sweep_named",
    "train_for",
    "try_submission",
    "undrain",
    "unpublish",
    "unsubscribe",
    "unwatch",
    "verbs_of_sweep",
    "verify",
    "visible_datasets",
    "visible_sweeps",
    "visible_views",
    "waiting_jobs",
    "waiting_replays",
    "wake",
    "watch",
    "why_not_checkable",
    "why_not_extendable",
    "why_not_stored",
    "why_not_verifiable",
    "withdraw",
]
