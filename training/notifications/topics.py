"""What people may be told of: every transition of a job has one topic."""

from __future__ import annotations

from enum import StrEnum

from training.lifecycle import TERMINAL, Status, Verb

TEST = "test"  # the topic of a message that somebody asked for to see whether it arrives


class Topic(StrEnum):
    SUBMITTED = "submitted"
    STARTED = "started"
    STOPPING = "stopping"
    PAUSED = "paused"
    QUEUED = "queued"
    CRASHED = "crashed"
    LOST = "lost"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"


TOPICS: dict[Topic, str] = {
    Topic.COMPLETED: "It completed",
    Topic.FAILED: "It failed",
    Topic.CANCELLED: "It was cancelled",
    Topic.PAUSED: "It is paused",
    Topic.CRASHED: "Its trainer crashed; it goes on by itself",
    Topic.LOST: "Its worker was lost; it goes on by itself",
    Topic.QUEUED: "It is queued again: resumed, restarted, drained or preempted",
    Topic.STARTED: "A worker started it",
    Topic.STOPPING: "It was asked to stop, or the request was withdrawn",
    Topic.SUBMITTED: "It was submitted",
    Topic.DELETED: "It was deleted",
}
USUAL = (Topic.COMPLETED, Topic.FAILED, Topic.PAUSED, Topic.CRASHED, Topic.LOST)

_BY_STATUS = {
    Status.PAUSED: Topic.PAUSED,
    Status.COMPLETED: Topic.COMPLETED,
    Status.FAILED: Topic.FAILED,
    Status.CANCELLED: Topic.CANCELLED,
}
_QUEUED_BY = {Verb.SUBMIT: Topic.SUBMITTED, Verb.CRASH: Topic.CRASHED, Verb.REAP: Topic.LOST}


def topic_of(verb: Verb, status: Status) -> Topic:
    """The topic of a transition by `verb` that led to `status`. Where the job stands counts first."""
    if verb is Verb.DELETE:
        return Topic.DELETED
    if status in TERMINAL or status is Status.PAUSED:
        return _BY_STATUS[status]
    if status is Status.QUEUED:
        return _QUEUED_BY.get(verb, Topic.QUEUED)
    return Topic.STARTED if verb is Verb.CLAIM else Topic.STOPPING
