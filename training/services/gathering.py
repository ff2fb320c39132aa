"""How the hosts of one job come together: each offers its slots, and the one that finds enough offers leads.

An offer stands for some seconds. It is a row with the slots that its host holds, so nobody else takes them, and it
becomes a part of the attempt in the transaction that begins it: all hosts or none.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from training import placement, queue
from training.errors import StaleAttempt
from training.lifecycle import Status
from training.models import Attempt, GangMember, HeldSlot, Node, TrainingJob
from training.services.beginning import ClaimChoice, Supervisor, begin
from training.services.clock import in_seconds
from training.services.storable import MAX_DETAIL_CHARACTERS, shortened
from training.services.transition import Raced


@dataclass(frozen=True)
class LostMember:
    """Why a host cannot go on, and the code where its ranks have failed."""

    why: str
    error_code: str


OFFER_SECONDS = 10.0  # that a host keeps its slots for the others
ALIVE_SECONDS = 5.0  # an offer counts that was renewed so lately


def take_part(choice: ClaimChoice, node: Node, who: Supervisor) -> Attempt | GangMember:
    """Lead, where enough other hosts offer their slots; else offer these. The job's row is locked."""
    GangMember.objects.filter(
        job=choice.job, node=node, attempt=None
    ).delete()  # of a supervisor that was killed
    others = _offers(choice.job, node)
    if len(others) == choice.job.num_hosts - 1:
        return begin(choice, node, who, others)
    member = GangMember.objects.create(
        job=choice.job, node=node, slots=choice.slots, boot_id=node.boot_id, supervisor_pid=who.pid,
        supervisor_started_at=who.started_at,
    )  # fmt: skip
    HeldSlot.objects.bulk_create([HeldSlot(member=member, node=node, slot=slot) for slot in choice.slots])
    for other in placement.hosts_for(choice.job, but=node):
        queue.wake_host(other.name)
    return member


def look(member: GangMember, who: Supervisor) -> Attempt | GangMember | None:
    """What has become of an offer: an attempt that this host leads, one that it belongs to, or nothing yet (a member
    without an attempt). None: the job wants it no more, or its node takes no jobs."""
    try:
        with transaction.atomic():
            return _look(member, who)
    except Raced:
        return member


def _look(member: GangMember, who: Supervisor) -> Attempt | GangMember | None:
    jobs = TrainingJob.objects.select_for_update(of=("self",), skip_locked=True)
    job = jobs.filter(pk=member.job_id, status=Status.QUEUED).first()
    seen = GangMember.objects.select_related("attempt__job", "node").filter(pk=member.pk).first()
    if seen is None or seen.attempt_id is not None:
        return seen
    if job is None:  # somebody holds its row, or it waits no more
        return seen if TrainingJob.objects.filter(pk=member.job_id, status=Status.QUEUED).exists() else None
    if not placement.takes_jobs(seen.node):
        return None
    others = _offers(job, seen.node)
    if len(others) == job.num_hosts - 1:
        seen.delete()
        return begin(ClaimChoice(job, seen.slots), seen.node, who, others)
    GangMember.objects.filter(pk=seen.pk).update(seen_at=Now())
    return seen


def withdraw(member: GangMember) -> bool:
    """Take an offer back; False where it has become a part of an attempt."""
    with transaction.atomic():
        mine = GangMember.objects.select_for_update().filter(pk=member.pk)
        return bool(not mine.exclude(attempt=None).exists() and mine.filter(attempt=None).delete()[0])


def forget_offers() -> int:
    """Drop offers whose supervisor is gone: their slots are free."""
    old = GangMember.objects.filter(attempt=None, seen_at__lt=in_seconds(-2 * OFFER_SECONDS))
    return old.delete()[0]


def _offers(job: TrainingJob, node: Node) -> list[GangMember]:
    """Of so many other hosts as the job needs, where there are so many; the rows are locked."""
    alive = GangMember.objects.select_for_update(of=("self",)).select_related("node")
    alive = alive.filter(
        job=job, attempt=None, leaves=False, seen_at__gt=in_seconds(-ALIVE_SECONDS), node__drained_at=None,
        node__draining=False,
    )  # fmt: skip
    return list(alive.exclude(node=node).order_by("pk")[: job.num_hosts - 1])


# While the attempt lives.


def beat_member(member: GangMember) -> None:
    """Say that this host's part lives. Raises StaleAttempt where the attempt is over."""
    if not _living(member).update(seen_at=Now()):
        raise StaleAttempt(f"{member} is over.")


def leave_gang(member: GangMember) -> None:
    """This host stops: the attempt is to land at its next step."""
    _living(member).update(leaves=True)


def lose_member(member: GangMember, why: str, *, error_code: str = "") -> None:
    """This host's ranks are gone, and the attempt ends. error_code: they have failed, and would fail again."""
    _living(member).update(lost=shortened(why, MAX_DETAIL_CHARACTERS), error_code=error_code[:40])


def _living(member: GangMember) -> QuerySet[GangMember]:
    return GangMember.objects.filter(pk=member.pk, attempt=member.attempt_id, attempt__ended_at=None)


def lost_member(attempt: Attempt, *, silent_seconds: float) -> LostMember | None:
    """Another host that cannot go on, or of which nothing was heard for so long; None where all live."""
    is_gone = ~Q(lost="") | Q(seen_at__lt=in_seconds(-silent_seconds))
    found = GangMember.objects.select_related("node").filter(is_gone, attempt=attempt)
    lost = found.order_by("-error_code").first()
    if lost is None:
        return None
    return LostMember(f"Node {lost.node.name}: {lost.lost or 'nothing was heard of it'}", lost.error_code)
