"""Replays and evidence as every door shows them."""

from __future__ import annotations

from typing import Any

from training.models import ChainLink, Replay, TrainingJob
from training.queries.jobs import evidence
from training.queries.values import iso

EVIDENCE_MEANS = {
    "replayed": "Stretches of this very training were trained again in new processes and gave the same bits.",
    "checked": "A check has shown that such a script is resumed exactly. No stretch of it was trained again yet.",
    "not shown": "No stretch of this training was trained again yet.",
    "differs": "A stretch of this training was trained again and gave other bits. The replay says where and why.",
}


def replay_dict(replay: Replay) -> dict[str, Any]:
    return {
        "id": replay.pk,
        "job": replay.job_id,
        "generation": replay.generation,
        "state": replay.state,
        "from_step": replay.from_step,
        "to_step": replay.to_step,
        "points": replay.points,
        "reason": replay.reason,
        "first_step": replay.first_step,
        "first_value": replay.first_value,
        "first_tensor": replay.first_tensor,
        "steps_compared": replay.steps_compared,
        "seconds": replay.seconds,
        "environment": replay.environment,
        "is_automatic": replay.is_automatic,
        "created_at": iso(replay.created_at),
        "finished_at": iso(replay.finished_at),
    }


def evidence_words(job: TrainingJob) -> str:
    """One sentence of what is known."""
    found = evidence(job)
    counted = job.replayed
    if found not in ("replayed", "differs") or not counted.get("stretches"):
        return EVIDENCE_MEANS[found]
    share = f"{counted['steps_replayed']} of {counted['steps']} steps ({counted['stretches_replayed']} of "
    share += f"{counted['stretches']} stretches) were trained again and gave the same bits."
    return share if found == "replayed" else f"{EVIDENCE_MEANS[found]} {share}"


def has_chain(job: TrainingJob) -> bool:
    return ChainLink.objects.filter(job=job).exists()
