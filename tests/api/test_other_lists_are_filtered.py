"""Datasets, nodes and events are found by what their lists are described to take; anything else is refused."""

from datetime import timedelta

import pytest
from django.utils import timezone

from training.models import Dataset, Event, Node

DATASETS, NODES = "/v1/training/datasets", "/v1/training/nodes"


@pytest.fixture
def datasets(alice, mallory, team) -> None:
    Dataset.objects.create(name="near", recipe="rf_dataset", owner=alice, team=team)
    Dataset.objects.create(name="nearer", recipe="shards", owner=alice)
    Dataset.objects.create(name="far", recipe="rf_dataset", owner=mallory, team=team)
    Dataset.objects.create(name="hidden", recipe="rf_dataset", owner=mallory)
    Dataset.objects.filter(name="far").update(created_at=timezone.now() - timedelta(days=10))


def names(api, address: str, **asked: str) -> list[str]:
    answer = api.get(address, asked)
    assert answer.status_code == 200, answer.content
    assert answer.json()["count"] == len(answer.json()["results"])
    return [found["name"] for found in answer.json()["results"]]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["far", "nearer", "near"]),
        ({"recipe": "rf_dataset"}, ["far", "near"]),
        ({"owner": "alice"}, ["nearer", "near"]),
        ({"owner": "nobody"}, []),
        ({"team": "lab", "owner": "mallory"}, ["far"]),
        ({"search": "NEAR"}, ["nearer", "near"]),
        ({"created_after": "{yesterday}"}, ["nearer", "near"]),
        ({"created_before": "{yesterday}"}, ["far"]),
    ],
)
def test_datasets(api, datasets, team, asked, found):
    yesterday = timezone.localdate() - timedelta(days=1)
    asked = {name: value.format(yesterday=yesterday) for name, value in asked.items()}
    if "team" in asked:
        asked["team"] = team.name
    assert names(api, DATASETS, **asked) == found


def test_nodes(api):
    Node.objects.create(name="a", pools=["fast", "big"])
    Node.objects.create(name="b", pools=["fast"], drained_at=timezone.now())
    Node.objects.create(name="c")
    assert names(api, NODES) == ["a", "b", "c"]
    assert names(api, NODES, pool="fast") == ["a", "b"]
    assert names(api, NODES, pool="fas") == []
    assert names(api, NODES, drained="true") == ["b"]
    assert names(api, NODES, drained="false", pool="fast") == ["a"]


def test_events(api, make_job):
    job = make_job()
    start = job.event_seq
    for seq, kind, actor in (
        (start + 1, "note", "alice"),
        (start + 2, "pause", "bob"),
        (start + 3, "note", "bob"),
    ):
        Event.objects.create(job=job, seq=seq, kind=kind, actor=actor, message=kind)
    Event.objects.filter(seq=start + 1).update(created_at=timezone.now() - timedelta(days=10))
    address = f"/v1/training/jobs/{job.pk}/events"

    def found(**asked: str) -> list[int]:
        return [event["seq"] - start for event in api.get(address, asked).json()["results"]]

    assert found(kind="note") == [1, 3]
    assert found(kind="note", actor="bob") == [3]
    assert found(kind="note", created_before=str(timezone.localdate() - timedelta(days=1))) == [1]
    page = api.get(address, {"kind": "note", "limit": "1"}).json()
    assert page["count"] == 2
    assert [event["seq"] for event in api.get(page["next"]).json()["results"]] == [start + 3]


@pytest.mark.parametrize(
    ("address", "asked", "field", "sentence"),
    [
        (DATASETS, {"colour": "red"}, "colour", "There is no parameter colour."),
        (DATASETS, {"owner": ["a", "b"]}, "owner", "Give it once."),
        (DATASETS, {"search": "x" * 101}, "search", "At most 100 characters."),
        (DATASETS, {"search": "x\x00"}, "search", "Null characters are not allowed."),
        (DATASETS, {"created_after": "2026-1-31"}, "created_after", "Give a date like 2026-01-31."),
        (NODES, {"drained": "perhaps"}, "drained", "'perhaps' is not one of: true, false."),
    ],
)
def test_what_is_not_offered_is_refused(api, address, asked, field, sentence):
    answer = api.get(address, asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {field: [sentence]}


def test_the_filters_are_described(api):
    schema = api.get("/v1/schema/").json()
    described = {one["name"]: one for one in schema["paths"][DATASETS]["get"]["parameters"]}
    assert described["owner"]["schema"]["maxLength"] == 150
    assert described["created_after"]["schema"]["format"] == "date"
    assert described["search"]["description"] == "Only datasets with this text in their name."
