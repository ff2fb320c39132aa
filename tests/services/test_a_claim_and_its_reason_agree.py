"""What a claim takes and why a job waits are said by the same rules: whatever stands in the way of one is told by the
other, for every kind of node and job."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models.functions import Now

from training import placement, queries, services
from training.models import Attempt, Node, TrainingJob
from training.scheduling import preemption

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("each_database")]

CPU, GPU = {"device": "cpu"}, {"device": "cuda:0"}
NODES = {
    "devices": [[], [CPU, CPU], [GPU, CPU], [GPU, GPU]],
    "pools": [[], ["big"]],
    "drained_at": [None, Now()],
    "taken": [(), (0,), (1,), (0, 1)],
}
JOBS = {
    "pool": ["", "big"],
    "config": [{"device": "auto"}, {"device": "cuda"}, {}],
    "not_before": [None, Now() + timedelta(hours=1), Now() - timedelta(hours=1)],
}


class Undo(Exception):
    pass


def every(choices: dict) -> list[dict]:
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


@pytest.mark.parametrize("drawn", every(NODES), ids=str)
def test_a_job_is_next_where_a_free_slot_can_claim_it_and_nowhere_else(drawn, make_job):
    taken = drawn["taken"]
    of_node = {name: value for name, value in drawn.items() if name != "taken"}
    node = Node.objects.create(name="node", slots=2, last_seen_at=Now(), **of_node)
    node.refresh_from_db()
    for slot in taken:
        other = make_job(status="running")
        Attempt.objects.filter(job=other).update(node=node, slot=slot)
    job = make_job()
    for wanted in every(JOBS):
        TrainingJob.objects.filter(pk=job.pk).update(**wanted)
        job.refresh_from_db()
        code = queries.job_dict(job)["waiting"]["code"]
        claims = [slot for slot in (0, 1) if slot not in taken and can_claim(node, slot)]
        assert (code == "next") == bool(claims), (code, claims, wanted)
        if code in ("next", "no_slot"):
            assert claims == placement.free_slots(node, placement.busy_slots(), job)


def can_claim(node: Node, slot: int) -> bool:
    try:
        with transaction.atomic():
            attempt = services.claim(node, slot=slot, pid=1)
            raise Undo
    except Undo:
        return attempt is not None


def test_a_dataset_in_the_making_holds_up_the_claim_and_is_the_reason(make_job, alice):
    node = Node.objects.create(name="node", slots=2, last_seen_at=Now())
    node.refresh_from_db()
    maker = services.submit(by=alice, job_name="data", recipe="shards", config={}).job
    job = make_job(dataset=maker.dataset)
    assert queries.job_dict(job)["waiting"]["code"] == "dataset"
    assert services.claim(node, slot=0, pid=1).job_id == maker.pk
    assert queries.job_dict(job)["waiting"]["code"] == "dataset"
    assert not can_claim(node, 1)


def test_an_urgent_job_for_the_gpu_gets_it_though_a_slot_without_one_is_free(make_job):
    node = Node.objects.create(name="node", slots=2, last_seen_at=Now(), devices=[GPU, CPU])
    holder = make_job()
    node.refresh_from_db()
    assert services.claim(node, slot=0, pid=1).job_id == holder.pk
    urgent = make_job(priority=5, config={"device": "cuda"})
    assert queries.job_dict(urgent)["waiting"]["code"] == "no_slot"
    assert preemption.make_room() == holder
