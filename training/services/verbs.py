"""What people and programs ask for. Each verb checks who, checks from where, writes once and leaves an event."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from heimdall.errors import InvalidConfig, InvalidInput
from heimdall.recipes import registry
from heimdall.site.env import LABEL, LABEL_RULE
from training import hardware, lifecycle, placement, policy, queue
from training.errors import NotFound, StorageUnavailable, TransitionRefused
from training.lifecycle import Answer, JobType, Rule, Status, Stop, StopAt, Verb
from training.models import (
    MAX_TAGS,
    Artifact,
    Attempt,
    Checkpoint,
    Dataset,
    Deletion,
    Metric,
    Tag,
    TrainingJob,
)
from training.queries import counters
from training.services import outbox
from training.services.blocks import forget_blocks
from training.services.datasets import dataset_named, hold_dataset, name_dataset, require_dataset
from training.services.transition import (
    Raced,
    Result,
    add_event,
    hold,
    move,
    rolled_back,
    start_again,
    to_checkpoint,
    write,
)
from training.store import checkpoints

NAME_LENGTH, DESCRIPTION_LENGTH = 200, 10_000
TAG_PATTERN = r"[a-z0-9][a-z0-9._:/+\-]{0,39}"
TAG = re.compile(TAG_PATTERN)
_TRIES = 20  # a verb that loses this many races in a row gives up


def submit(
    *,
    by: Any,
    job_name: str,
    recipe: str,
    config: dict[str, Any],
    description: str = "",
    team: Group | None = None,
    priority: int = 0,
    pool: str = "",
    parent: TrainingJob | None = None,
    dataset: Dataset | None = None,
    tags: Any = (),
) -> Result:
    """Queue a new job. Raises InvalidInput with the fields that were refused.

    A synthetic-data job begins a dataset, named after it, unless it is given the one that it extends.
    """
    info = registry.get(recipe)
    resolved = registry.validate(recipe, config)
    _refuse_what_does_not_fit(info, resolved)
    fields = {
        "job_name": clean_name(job_name),
        "description": _clean_description(description),
        "priority": _clean_priority(priority),
        "pool": _clean_pool(pool),
        "team": clean_team(team, by),
        "tags": clean_tags(tags),
    }
    with transaction.atomic():
        if parent is not None:
            hold(parent)
        job = TrainingJob.objects.create(
            **fields,
            dataset=dataset or _dataset_for(info.job_type, recipe, resolved, fields, by),
            job_type=info.job_type,
            recipe=recipe,
            config=resolved,
            owner=by,
            parent=parent,
            total_epochs=resolved["epochs"] if info.job_type == JobType.TRAINING else 0,
            event_seq=1,
        )
        job.refresh_from_db()
        _index_tags(job)
        outbox.announce(job, add_event(job, "submit", f"Submitted by {by}.", by=by), Verb.SUBMIT)
        task = queue.wake()
    return Result(job, Answer.NOTED, f"Job {job.pk} is queued.{_pool_hint(job.pool)}", task_id=task)


def extend_dataset(dataset: Dataset, *, by: Any, samples: int, parent: TrainingJob | None = None) -> Result:
    """Make so many samples more: a new job writes exactly those that would have come next."""
    require_dataset(dataset, by=by, verb="extend")
    first = dataset.config.get("first_sample")
    if first is None:
        raise TransitionRefused(
            f"The data of recipe {dataset.recipe} cannot be extended: it does not say which sample is the first. "
            "Clone the job with more samples."
        )
    with transaction.atomic():
        # Two that extend at once would write the same samples: the second finds the first one's job.
        dataset = hold_dataset(dataset)
        makers = dataset.jobs.filter(job_type=JobType.SYNTHETIC_DATA).order_by("-id")
        unfinished = makers.exclude(status=Status.COMPLETED).first()
        if unfinished:
            raise TransitionRefused(
                f"Dataset {dataset.name} is not finished: job {unfinished.pk} is {unfinished.status}. "
                "Resume it, or wait for its end."
            )
        return submit(
            by=by,
            job_name=f"{dataset.name} (extended)",
            recipe=dataset.recipe,
            config=dataset.config
            | {"first_sample": dataset.config["first_sample"] + dataset.samples, "samples": samples},
            team=dataset.team if policy.may_name_team(by, dataset.team) else None,
            parent=parent or makers.first(),
            dataset=dataset,
        )


def pause(job: TrainingJob, *, by: Any, at: str = "epoch") -> Result:
    """Ask a running job to pause, or pause a queued one at once. Raises InvalidInput for another `at`."""
    if at not in {StopAt.EPOCH, StopAt.STEP}:
        raise InvalidInput({"at": [f"{at!r} is neither 'epoch' nor 'step'."]})
    return _ask(Verb.PAUSE, job, by, lambda seen, rule: _pause(seen, by, StopAt(at)))


def resume(job: TrainingJob, *, by: Any, checkpoint: int | None = None) -> Result:
    """Queue a stopped job from its newest good checkpoint, or withdraw a pause that has not landed yet.

    From an older checkpoint (its number) what came after it is given up; the newer checkpoints stay for a while.
    """
    return _ask(Verb.RESUME, job, by, lambda seen, rule: _resume(seen, rule, by, checkpoint))


def restart(job: TrainingJob, *, by: Any) -> Result:
    """Queue a failed or cancelled job at step 0. Its checkpoints stay for the retention time."""
    return _ask(Verb.RESTART, job, by, lambda seen, rule: _restart(seen, by))


def cancel(job: TrainingJob, *, by: Any) -> Result:
    return _ask(Verb.CANCEL, job, by, lambda seen, rule: _cancel(seen, rule, by))


def discard(job: TrainingJob, *, by: Any) -> Result:
    """Give a paused job up. Its checkpoints stay for the retention time."""
    return _ask(Verb.DISCARD, job, by, lambda seen, rule: _discard(seen, by))


def delete(job: TrainingJob, *, by: Any) -> Result:
    """Remove a finished job with its history and its files. That somebody did so stays known."""
    return _ask(Verb.DELETE, job, by, lambda seen, rule: _delete(seen, by))


VERBS: dict[str, Callable[..., Result]] = {
    "pause": pause,
    "resume": resume,
    "restart": restart,
    "cancel": cancel,
    "discard": discard,
    "delete": delete,
}


def edit(
    job: TrainingJob,
    *,
    by: Any,
    job_name: str | None = None,
    description: str | None = None,
    priority: int | None = None,
    pool: str | None = None,
    tags: Any = None,
) -> TrainingJob:
    """Change what a job is called and found by, how urgent it is, or for which nodes. What it computes stays."""
    policy.require(by, policy.EDIT, job)
    changes: dict[str, Any] = {}
    if job_name is not None:
        changes["job_name"] = clean_name(job_name)
    if description is not None:
        changes["description"] = _clean_description(description)
    if priority is not None:
        changes["priority"] = _clean_priority(priority)
    if pool is not None:
        changes["pool"] = _clean_pool(pool)
    if tags is not None:
        changes["tags"] = clean_tags(tags)
    return _edit(job, by, changes) if changes else job


def pin(checkpoint: Checkpoint, *, by: Any, pinned: bool) -> Checkpoint:
    """Keep a checkpoint for as long as its job, whatever the retention says; or no longer."""
    policy.require(by, policy.EDIT, checkpoint.job)
    with transaction.atomic():
        job = _read(checkpoint.job_id, lock=True)
        if not Checkpoint.objects.filter(pk=checkpoint.pk).update(pinned=pinned):
            raise NotFound(f"There is no checkpoint {checkpoint.pk}.")
        _raise_seq(job)
        word = "Pinned" if pinned else "Unpinned"
        add_event(job, "pin", f"{word} the checkpoint at step {checkpoint.step}.", by=by)
    checkpoint.refresh_from_db()
    return checkpoint


def _ask(verb: Verb, job: TrainingJob, by: Any, act: Callable[[TrainingJob, Rule], Result]) -> Result:
    """Decide on the job as it is now; when somebody else was faster, read again and decide again."""
    for _ in range(_TRIES):
        try:
            with transaction.atomic():
                # A dataset that is just being deleted decides whether a job that wrote it goes on.
                seen = _read(job.pk, lock=job.job_type == JobType.SYNTHETIC_DATA)
                policy.require(by, verb, seen)
                rule = _allowed(verb, seen, by)
                if not rule.writes:
                    return Result(seen, Answer.ALREADY, f"Job {seen.pk} is {_words(seen)} already.")
                return act(seen, rule)
        except Raced:
            continue
    raise TransitionRefused(f"Job {job.pk} changes too fast; try again.")


def _allowed(verb: Verb, job: TrainingJob, by: Any) -> Rule:
    status, stop = Status(job.status), Stop(job.stop)
    sentence = lifecycle.refusal(verb, status, stop, job.facts)
    if sentence:
        possible = (
            other for other in lifecycle.offered(status, stop, job.facts) if policy.may(by, other, job)
        )
        raise TransitionRefused(
            sentence, status=status, stop=stop, stop_at=job.stop_at, verbs=tuple(possible)
        )
    return lifecycle.RULES[verb, status, stop]


def _pause(job: TrainingJob, by: Any, at: StopAt) -> Result:
    if job.status == Status.QUEUED:
        move(job, Verb.PAUSE, by=by, message="Paused while queued.", changes={"not_before": None})
        return Result(job, Answer.DONE, f"Job {job.pk} is paused.")
    if (job.stop, job.stop_at) == (Stop.PAUSE, StopAt.STEP):
        at = StopAt.STEP  # a wish may be strengthened, never weakened
    when = "at the next step" if at is StopAt.STEP else f"at the end of epoch {job.current_epoch + 1}"
    if (job.stop, job.stop_at) != (Stop.PAUSE, at):
        move(job, Verb.PAUSE, by=by, message=f"Asked to pause {when}.", stop_at=at)
    return Result(job, Answer.NOTED, f"Job {job.pk} will pause {when}.")


def _resume(job: TrainingJob, rule: Rule, by: Any, checkpoint: int | None) -> Result:
    start, changes = job.latest_checkpoint, {}
    if checkpoint is not None and (start is None or checkpoint != start.pk):
        policy.require(by, Verb.RESTART, job)  # what was trained since is given up
        start = _older_checkpoint(job, rule, checkpoint)
        changes = _take_back(job, start)
    elif rule.to_status == Status.RUNNING:
        move(job, Verb.RESUME, by=by, message="The pause was withdrawn.")
        return Result(
            job, Answer.DONE, f"Job {job.pk} goes on: its pause was withdrawn.", resumes_from=_place(job)
        )
    changes |= start_again(job) | to_checkpoint(job, start)
    changes |= {"crashes_at_step": 0, "crashes_since_checkpoint": 0}
    step, epoch = (start.step, start.epoch) if start else (0, 0)
    repeats = f" Rolled back to step {step}." if rolled_back(job, start) else ""
    move(job, Verb.RESUME, by=by, message=f"Resumed from step {step}.{repeats}", changes=changes)
    return Result(
        job,
        Answer.NOTED,
        f"Job {job.pk} is queued and goes on from step {step}.",
        task_id=queue.wake(),
        resumes_from={"epoch": epoch, "step": step},
    )


def _older_checkpoint(job: TrainingJob, rule: Rule, pk: int) -> Checkpoint:
    if rule.to_status == Status.RUNNING:
        raise InvalidInput({"checkpoint": ["The job still trains; pause it before it is taken back."]})
    found = Checkpoint.objects.filter(job=job, pk=pk).first()
    if found is None:
        raise InvalidInput({"checkpoint": [f"Job {job.pk} has no checkpoint {pk}."]})
    if found.quarantined_at is not None:
        raise InvalidInput({"checkpoint": [f"Checkpoint {pk} failed its check: {found.quarantine_reason}"]})
    if found.generation != job.generation:
        raise InvalidInput({"checkpoint": [f"Checkpoint {pk} was given up when the job was taken back."]})
    return found


def _take_back(job: TrainingJob, start: Checkpoint) -> dict[str, Any]:
    """A new generation that begins with the checkpoint and those before it: newer ones are not ahead any more."""
    older = Checkpoint.objects.filter(job=job, generation=job.generation, step__lte=start.step)
    num_older = older.exclude(step=start.step, pk__gt=start.pk).update(generation=job.generation + 1)
    return {
        "generation": job.generation + 1,
        "latest_checkpoint": start,
        "checkpoint": start.file.name,
        "checkpoints_stored": num_older,
    }


def _restart(job: TrainingJob, by: Any) -> Result:
    beginning = _beginning(job)
    Metric.objects.filter(job_id=job.pk).delete()
    forget_blocks(job, after=-1)
    Artifact.objects.filter(job_id=job.pk).delete()
    changes = start_again(job) | {
        "generation": F("generation") + 1,
        "crashes_at_step": 0,
        "crash_step": None,
        "crashes_since_checkpoint": 0,
        "environment": job.environment if job.origin else {},
        "approximate": [],
        "train_loss": None,
        "val_loss": None,
        "learning_rate": None,
        "metrics": {},
        "best_epoch": None,
        "best_val_loss": None,
        "started_at": None,
    }
    move(
        job,
        Verb.RESTART,
        by=by,
        message=f"Restarted at step {beginning['current_step']}, on purpose.",
        changes=changes | beginning,
    )
    if job.latest_checkpoint_id:
        Checkpoint.objects.filter(pk=job.latest_checkpoint_id).update(generation=job.generation)
    return Result(
        job,
        Answer.NOTED,
        f"Job {job.pk} is queued and begins again at step {job.current_step}.",
        task_id=queue.wake(),
        resumes_from=_place(job),
    )


def _beginning(job: TrainingJob) -> dict[str, Any]:
    """Step 0; for a job that began from another one's checkpoint, that checkpoint."""
    start = Checkpoint.objects.filter(job=job, pk=job.origin["start"]).first() if job.origin else None
    if job.origin and (start is None or start.quarantined_at):
        raise TransitionRefused(
            f"The checkpoint that job {job.pk} began from failed its check, so there is no beginning to go back to.",
            status=job.status,
        )
    return {
        "latest_checkpoint": start,
        "checkpoint": start.file.name if start else "",
        "checkpoints_stored": 1 if start else 0,
        "current_step": start.step if start else 0,
        "current_epoch": start.epoch if start else 0,
    }


def _cancel(job: TrainingJob, rule: Rule, by: Any) -> Result:
    if rule.to_status == Status.CANCELLED:
        move(job, Verb.CANCEL, by=by, message="Cancelled while queued.")
        return Result(job, Answer.DONE, f"Job {job.pk} is cancelled.")
    move(job, Verb.CANCEL, by=by, message="Asked to cancel.", stop_at=StopAt.STEP)
    return Result(job, Answer.NOTED, f"Job {job.pk} will be cancelled at its next step.")


def _discard(job: TrainingJob, by: Any) -> Result:
    move(job, Verb.DISCARD, by=by, message="Discarded while paused.")
    return Result(job, Answer.DONE, f"Job {job.pk} is given up; its checkpoints stay for a while.")


def _delete(job: TrainingJob, by: Any) -> Result:
    write(job, {"latest_checkpoint": None, "checkpoint": ""})  # decides the race; the rest is ours
    _leave_word(job, by)
    names = list(Checkpoint.objects.filter(job=job).values_list("file", flat=True))
    Attempt.objects.filter(job=job).update(started_from=None)
    counters.keep(Attempt.objects.filter(job=job))
    pk = job.pk
    job.delete()
    job.pk = pk  # Django clears it; the doors still name the job
    transaction.on_commit(lambda: _delete_files(names))
    return Result(job, Answer.DONE, f"Job {pk} and its files are deleted.")


def _leave_word(job: TrainingJob, by: Any) -> None:
    """Tell of the deletion as of every transition, and keep what would go with the job."""
    event = add_event(job, str(Verb.DELETE), f"Deleted by {by}.", by=by)
    event.refresh_from_db(fields=["created_at"])  # the database's clock wrote it
    outbox.announce(job, event, Verb.DELETE)
    Deletion.objects.create(
        id=event.pk,
        job_number=job.pk,
        job_name=job.job_name,
        job_type=job.job_type,
        recipe=job.recipe,
        owner_id=job.owner_id,
        team_id=job.team_id,
        status=job.status,
        epoch=job.current_epoch,
        step=job.current_step,
        message=event.message,
        actor=event.actor,
        user=event.user,
        created_at=event.created_at,
    )


def _delete_files(names: list[str]) -> None:
    for name in names:
        try:
            checkpoints.delete_file(name)
        except StorageUnavailable:
            return  # the sweep of orphaned files comes back to them


def _dataset_for(job_type: str, recipe: str, config: dict, fields: dict, by: Any) -> Dataset | None:
    """The dataset that the job will write, or the one that its config names."""
    if job_type == JobType.SYNTHETIC_DATA:
        return name_dataset(fields["job_name"], recipe=recipe, config=config, owner=by, team=fields["team"])
    return dataset_named(config["dataset"], by=by) if config.get("dataset") else None


def _edit(job: TrainingJob, by: Any, changes: dict[str, Any]) -> TrainingJob:
    with transaction.atomic():
        seen = _read(job.pk, lock=True)
        TrainingJob.objects.filter(pk=seen.pk).update(**changes)
        _raise_seq(seen)
        if "tags" in changes:
            _index_tags(seen)
        shown = ", ".join(sorted(changes))
        add_event(seen, "edit", f"Changed {shown}.", by=by, data={"fields": sorted(changes)})
        if "pool" in changes and seen.status == Status.QUEUED:
            queue.wake()
    return seen


def _index_tags(job: TrainingJob) -> None:
    Tag.objects.filter(job=job).delete()
    Tag.objects.bulk_create([Tag(job=job, name=name) for name in job.tags])


def _raise_seq(job: TrainingJob) -> None:
    if not TrainingJob.objects.filter(pk=job.pk).update(event_seq=F("event_seq") + 1, updated_at=Now()):
        raise NotFound(f"There is no job {job.pk}.")
    job.refresh_from_db()


def _read(pk: int, *, lock: bool = False) -> TrainingJob:
    jobs = TrainingJob.objects.select_related("latest_checkpoint", "owner", "team")
    try:
        return (jobs.select_for_update(of=("self",)) if lock else jobs).get(pk=pk)
    except TrainingJob.DoesNotExist:
        raise NotFound(f"There is no job {pk}.") from None


def _place(job: TrainingJob) -> dict[str, int]:
    return {"epoch": job.current_epoch, "step": job.current_step}


def _words(job: TrainingJob) -> str:
    return lifecycle.describe(Status(job.status), Stop(job.stop))


def _refuse_what_does_not_fit(info: registry.RecipeInfo, config: dict[str, Any]) -> None:
    """A config whose estimate is beyond all memory would only crash its trainer, again and again."""
    gigabytes = settings.MAX_JOB_MEMORY_GB
    most = gigabytes * 1e9 if gigabytes is not None else hardware.memory_bytes()
    needed = info.estimate_memory_bytes(config)
    if needed is not None and needed > most:
        raise InvalidConfig(
            {
                "config": [
                    f"This needs about {needed / 1e9:.1f} GB of memory, and {most / 1e9:.1f} GB is the limit "
                    "(HEIMDALL_MAX_JOB_MEMORY_GB). Make the model, the batch or the data smaller."
                ]
            }
        )


def clean_name(name: Any, *, field: str = "job_name", of: str = "the job", longest: int = NAME_LENGTH) -> str:
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput({field: [f"Give {of} a name."]})
    name = name.strip()
    if len(name) > longest:
        raise InvalidInput({field: [f"The name has {len(name)} characters; at most {longest} fit."]})
    if any(_is_hidden(sign) for sign in name):
        raise InvalidInput({field: ["The name holds a control character; remove it."]})
    return name


def _clean_description(text: Any) -> str:
    if not isinstance(text, str) or len(text) > DESCRIPTION_LENGTH:
        raise InvalidInput({"description": [f"Give a text of at most {DESCRIPTION_LENGTH} characters."]})
    if any(_is_hidden(sign) and sign not in "\n\r\t" for sign in text):
        raise InvalidInput({"description": ["The description holds a control character; remove it."]})
    return text


def _is_hidden(sign: str) -> bool:
    """A control character, a line separator, or a mark that turns the direction of what follows."""
    if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"}:
        return True
    return "\u202a" <= sign <= "\u202e" or "\u2066" <= sign <= "\u2069"


def _clean_priority(priority: Any) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or not -100 <= priority <= 100:
        raise InvalidInput({"priority": ["Give a whole number from -100 to 100."]})
    return priority


def clean_tags(tags: Any) -> list[str]:
    """Each tag once, in the order given. Raises InvalidInput for what is no tag."""
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidInput({"tags": ["Give a list of tags."]})
    found = list(dict.fromkeys(tags))
    if len(found) > MAX_TAGS:
        raise InvalidInput({"tags": [f"A job has at most {MAX_TAGS} tags, and these are {len(found)}."]})
    for tag in found:
        if not TAG.fullmatch(tag):
            raise InvalidInput(
                {
                    "tags": [
                        f"{tag[:60]!r} is no tag: take 1 to 40 lower-case letters, digits and . _ : / + -, "
                        "beginning with a letter or a digit."
                    ]
                }
            )
    return found


def _clean_pool(pool: Any) -> str:
    """A pool without a node is accepted: the node may come later, and until then the job says what it waits for."""
    if not isinstance(pool, str) or (pool and not LABEL.fullmatch(pool)):
        raise InvalidInput({"pool": [f"This is no name of a pool; {LABEL_RULE}"]})
    return pool


def _pool_hint(pool: str) -> str:
    if not pool or any(pool in node.pools for node in placement.live_nodes()):
        return ""
    return f" No live node is in the pool {pool} now: the job waits until one is."


def clean_team(team: Group | None, by: Any) -> Group | None:
    if team is None or policy.may_name_team(by, team):
        return team
    raise InvalidInput({"team": ["You are not in this team."]})
