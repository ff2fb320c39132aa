"""Replays: stretches of a training that are trained again on a slot that is idle, and what came out.

A replay is no job. It takes a slot only where no job waits for one, gives it back at once when a job comes, and
changes nothing of the job that it is of but what is known of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from heimdall.certificate.chain import Link, canonical, line_to
from heimdall.certificate.document import outcomes_of, summary_of
from heimdall.errors import InvalidInput
from heimdall.plain_json import with_nulls
from training import placement, policy, queue
from training.lifecycle import JobType
from training.models import Attempt, ChainLink, Checkpoint, Node, Replay, TrainingJob
from training.policy import System
from training.services import chain
from training.services.clock import lease_end
from training.services.storable import MAX_DETAIL_CHARACTERS, MAX_SENTENCE_CHARACTERS, shortened
from training.services.transition import add_event, hold, raise_event_seq

ALL = 0
MOST_STRETCHES = 10_000
MOST_TRIES = 5  # a worker that dies under a replay five times is not sent into it again
OPEN = (Replay.State.WAITING, Replay.State.RUNNING)
REPLAYER = System("replays")


@dataclass(frozen=True)
class Wanted:
    """One replay to be: where it begins, and the links that it comes past."""

    start: Checkpoint | None
    from_step: int
    from_digest: str
    links: tuple[Link, ...]

    @property
    def points(self) -> list[dict[str, Any]]:
        return [
            {"link": one.number, "step": one.step, "epoch": one.epoch, "recorded": one.digest, "found": ""}
            for one in self.links
        ]


def verify(job: TrainingJob, *, by: Any, stretches: int = ALL) -> list[Replay]:
    """Have stretches of a job trained again: so many, chosen at random, or all that have not been."""
    policy.require(by, policy.EDIT, job)
    if why_not := why_not_verifiable(job):
        raise InvalidInput({"job": [why_not]})
    if not 0 <= stretches <= MOST_STRETCHES:
        raise InvalidInput({"stretches": [f"Give a number up to {MOST_STRETCHES}, or 0 for all of them."]})
    with transaction.atomic():
        hold(job)
        if Replay.objects.filter(
            job=job, generation=job.generation, state__in=OPEN, is_automatic=False
        ).exists():
            raise InvalidInput({"job": [f"Stretches of job {job.pk} wait to be trained again already."]})
        wanted = _chosen(job, stretches)
        made = [_row(job, one, by=by) for one in wanted]
    if not made:
        raise InvalidInput({"job": [f"Job {job.pk} has no stretch that can be trained again."]})
    queue.wake()
    return made


def why_not_verifiable(job: TrainingJob) -> str:
    """The sentence that refuses it; empty where there is something to train again."""
    if job.job_type != JobType.TRAINING:
        return f"Job {job.pk} makes data: there is nothing to train again."
    if job.program and job.program["kind"] != "script":
        return f"Job {job.pk} runs a command, which goes on from what it saves itself: it cannot be trained again."
    if job.environment.get("world_size", 1) != 1:
        return f"Job {job.pk} trains on several devices, and a replay has one slot."
    if not ChainLink.objects.filter(job=job, generation=job.generation, attempt__gt=0).exists():
        return f"Job {job.pk} has no state yet that it trained itself: its first checkpoint is awaited."
    return ""


def plan_automatically(job: TrainingJob) -> None:
    """The job is at its end: some of its stretches are to be trained again on idle slots, as the settings say."""
    if not settings.REPLAY_PERCENT or why_not_verifiable(job):
        return
    wanted = [one for one in segments(job) if _is_drawn(one.links[-1])]
    for one in wanted:
        _row(job, one, by=None)


def _is_drawn(link: Link) -> bool:
    """By chance, and by the same one whoever asks: nobody can choose the stretches that are not looked at."""
    return int(link.seal[:8], 16) * 100 < settings.REPLAY_PERCENT * 2**32


def _chosen(job: TrainingJob, stretches: int) -> list[Wanted]:
    found = segments(job)
    if not found:
        return []
    done = outcomes_of(facts_of(job), chain.links_of(job))
    fresh = [one for one in found if any(link.number not in done for link in one.links)]
    if stretches == ALL:
        return fresh or found
    return random.sample(fresh or found, min(stretches, len(fresh or found)))


def segments(job: TrainingJob) -> list[Wanted]:
    """The job's line, cut where a state is kept from which it can be trained again."""
    line = head_line(job, chain.links_of(job))
    kept = _kept(job)
    found: list[Wanted] = []
    start, where, links = None, (0, ""), list[Link]()
    can_begin = bool(line) and line[0].attempt > 0 and line[0].came_from == ""
    for link in line:
        if link.attempt > 0 and can_begin:
            links.append(link)
        if link.number in kept:
            if links:
                found.append(Wanted(start, *where, tuple(links)))
            start, where, links, can_begin = kept[link.number], (link.step, link.digest), [], True
    return [*found, Wanted(start, *where, tuple(links))] if links else found


def head_line(job: TrainingJob, links: Sequence[Link]) -> list[Link]:
    return line_to(links, head_of(job, links))


def head_of(job: TrainingJob, links: Sequence[Link]) -> int:
    """The number of the link that the job stands on; 0 where there is none."""
    if job.latest_checkpoint_id:
        rows = ChainLink.objects.filter(checkpoint=job.latest_checkpoint_id)
        number = rows.values_list("number", flat=True).first()
        if number:
            return int(number)
    own = [link.number for link in links if link.generation == job.generation]
    return max(own, default=0)


def _kept(job: TrainingJob) -> dict[int, Checkpoint]:
    rows = Checkpoint.objects.filter(job=job, quarantined_at=None, link__isnull=False).select_related("link")
    return {row.link.number: row for row in rows}  # type: ignore[attr-defined]


def _row(job: TrainingJob, wanted: Wanted, *, by: Any) -> Replay:
    return Replay.objects.create(
        job=job,
        generation=job.generation,
        start=wanted.start,
        from_step=wanted.from_step,
        from_digest=wanted.from_digest,
        to_step=wanted.links[-1].step,
        points=wanted.points,
        is_automatic=by is None,
        user=by if by is not None and not isinstance(by, System) else None,
    )


# What a worker does.


def waiting_replays() -> QuerySet[Replay]:
    """Those that somebody asked for come first."""
    is_free = Q(state=Replay.State.WAITING) | Q(state=Replay.State.RUNNING, lease_expires_at__lt=Now())
    return Replay.objects.filter(is_free).order_by("is_automatic", "id")


def claim_replay(node: Node, slot: int) -> Replay | None:
    """Take the first replay that this slot may train, by one conditional UPDATE. `tries` is its fencing token."""
    for replay in waiting_replays().select_related("job__code", "job__dataset", "start")[:50]:
        if not placement.takes_jobs(node) or slot not in _slots_for(replay.job, node):
            continue
        if replay.tries >= MOST_TRIES:
            finish_replay(replay, state=Replay.State.FAILED, reason="Each worker that trained it died.")
            continue
        seen = Replay.objects.filter(pk=replay.pk, state=replay.state, tries=replay.tries)
        changes = {"state": Replay.State.RUNNING, "tries": F("tries") + 1, "lease_expires_at": lease_end()}
        if seen.update(**changes):
            replay.refresh_from_db(fields=["state", "tries", "lease_expires_at"])
            return replay
    return None


def _slots_for(job: TrainingJob, node: Node) -> list[int]:
    """On the kind of device that it was trained on first."""
    slots = placement.slots_for(job, node)
    return [
        slot for slot in slots if job.environment.get("device") != "cuda" or placement.has_gpu(node, slot)
    ]


def keep_replay(replay: Replay) -> bool:
    """Renew the lease; False where it is somebody else's by now, or gone with its job."""
    return bool(_held(replay).update(lease_expires_at=lease_end()))


def give_replay_back(replay: Replay) -> None:
    """A job needs the slot: this waits again, and the try does not count."""
    _held(replay).update(state=Replay.State.WAITING, lease_expires_at=None, tries=F("tries") - 1)


def finish_replay(replay: Replay, *, state: str, reason: str = "", **found: Any) -> None:
    """Write down what came out, under a seal, and what is known of the job now."""
    facts = with_nulls(found)
    with transaction.atomic():
        job = TrainingJob.objects.select_for_update(no_key=True).filter(pk=replay.job_id).first()
        if job is None:
            return
        for name, value in facts.items():
            setattr(replay, name, value)
        replay.state, replay.reason = state, shortened(reason, MAX_DETAIL_CHARACTERS)
        replay.lease_expires_at, replay.seal = None, seal_of(replay)
        written = {name: getattr(replay, name) for name in ("reason", "lease_expires_at", "seal", *facts)}
        if not _held(replay, of=(*OPEN,)).update(state=state, finished_at=Now(), **written):
            return
        _note(job, replay)


def _held(replay: Replay, of: Sequence[str] = (Replay.State.RUNNING,)) -> QuerySet[Replay]:
    return Replay.objects.filter(pk=replay.pk, state__in=of, tries=replay.tries)


def _note(job: TrainingJob, replay: Replay) -> None:
    where = f"Steps {replay.from_step} to {replay.to_step} were trained again"
    if replay.state == Replay.State.EQUAL:
        sentence = f"{where} and gave the same bits."
    elif replay.state == Replay.State.DIFFERS:
        sentence = f"{where} and gave others. {replay.reason}"
    else:
        sentence = f"Steps {replay.from_step} to {replay.to_step} could not be trained again. {replay.reason}"
    if job.generation == replay.generation:
        TrainingJob.objects.filter(pk=job.pk).update(replayed=_counted(job))
    raise_event_seq(job)
    sentence = shortened(sentence, MAX_SENTENCE_CHARACTERS)
    add_event(job, f"verify_{replay.state}", sentence, by=REPLAYER, data={"replay": replay.pk})


def _counted(job: TrainingJob) -> dict[str, Any]:
    links = chain.links_of(job)
    attempts = list(Attempt.objects.filter(job=job).order_by("number").values("number", "outcome"))
    predicate = {"replays": facts_of(job), "check": None, "attempts": attempts}
    return summary_of(predicate, links, head_line(job, links)) | {"generation": job.generation}


# What a certificate says of them.


def facts_of(job: TrainingJob) -> list[dict[str, Any]]:
    """Those of this generation that came to an end, oldest first. One whose seal does not fit is left out."""
    rows = Replay.objects.filter(
        job=job, generation=job.generation, state__in=[Replay.State.EQUAL, Replay.State.DIFFERS]
    )
    return [fact_of(row) for row in rows.order_by("finished_at", "id") if not is_forged(row)]


def fact_of(row: Replay) -> dict[str, Any]:
    return {
        "from_step": row.from_step,
        "from_digest": row.from_digest,
        "points": [
            {name: point[name] for name in ("link", "step", "recorded", "found")} for point in row.points
        ],
        "outcome": row.state,
        "reason": row.reason,
        "first_step": row.first_step,
        "first_value": row.first_value,
        "first_tensor": row.first_tensor,
        "steps_compared": row.steps_compared,
        "environment": row.environment,
    }


def is_forged(row: Replay) -> bool:
    """Whether it claims a result that no worker of this installation has written down."""
    return row.state in (Replay.State.EQUAL, Replay.State.DIFFERS) and row.seal != seal_of(row)


def seal_of(replay: Replay) -> str:
    facts = fact_of(replay) | {"id": replay.pk, "job": replay.job_id, "generation": replay.generation}
    return salted_hmac("heimdall: a replay", canonical(facts), algorithm="sha256").hexdigest()
