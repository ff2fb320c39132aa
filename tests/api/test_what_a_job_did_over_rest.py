"""Metrics, events, logs and checkpoints: after a cursor nothing is missed and nothing comes twice."""

import json
import math
import re

import pytest
from asgiref.sync import sync_to_async
from django.core.files.base import ContentFile
from django.test import AsyncClient

from tests.conftest import give_checkpoint
from tests.support.tokens import token_of
from training import services
from training.api.renderers import JsonRenderer
from training.models import Checkpoint, LogChunk, Metric
from training.presentation import checkpoint_files
from training.store import checkpoints

CONTENT = bytes(range(256)) * 20_000  # more than one piece


@pytest.fixture
def stored(make_job):
    """A checkpoint with a real file."""
    row = give_checkpoint(make_job(status="completed"), step=0, epoch=0)
    row.file.storage.save(row.file.name, ContentFile(CONTENT))
    Checkpoint.objects.filter(pk=row.pk).update(size=len(CONTENT), header_sha256="ab" * 32)
    row.refresh_from_db()
    return row


@pytest.fixture
def measured(make_job):
    job = make_job(status="running")
    rows = [
        Metric(
            job=job,
            step=step,
            epoch=(step - 1) // 4 + 1,
            attempt=1,
            values={"loss": 1.0 / step, "learning_rate": 0.1},
            epoch_values={"train_loss": 0.5, "val_loss": 0.25, "val_rmse": 3.0} if step % 4 == 0 else None,
        )
        for step in range(1, 11)
    ]
    Metric.objects.bulk_create(rows)
    return job


def follow(api, url, cursor):
    """Everything, page by page, by the links."""
    seen = []
    while url:
        page = api.get(url).json()
        assert set(page) == {"count", "next", "previous", "results"}
        assert page["count"] >= len(page["results"])
        seen += [row[cursor] for row in page["results"]]
        url = page["next"]
    return seen


def test_metrics_by_step_and_by_epoch(api, measured):
    url = f"/v1/training/jobs/{measured.pk}/metrics"
    assert follow(api, f"{url}?limit=3", "step") == list(range(1, 11))
    page = api.get(f"{url}?after=8&limit=1").json()
    assert (page["count"], page["results"]) == (
        2,
        [{"step": 9, "epoch": 3, "loss": 1 / 9, "learning_rate": 0.1}],
    )
    epochs = api.get(f"{url}?per=epoch").json()["results"]
    assert epochs == [
        {"epoch": epoch, "step": 4 * epoch, "train_loss": 0.5, "val_loss": 0.25, "val_rmse": 3.0}
        for epoch in (1, 2)
    ]
    assert api.get(f"{url}?after=10").json() == {"count": 0, "next": None, "previous": None, "results": []}


def test_a_number_that_is_not_finite_does_not_break_the_json():
    values = {"loss": math.nan, "norms": [math.inf, 1.5, {"deep": -math.inf}], "text": "\ud800\u2028\u00e9"}
    shown = json.loads(JsonRenderer().render(values))
    assert shown == {"loss": None, "norms": [None, 1.5, {"deep": None}], "text": "\ud800\u2028\u00e9"}


def test_events_tell_who_did_what_without_a_gap(api, make_job, alice, bob):
    job = services.submit(by=alice, job_name="x", recipe="tiny", config={}).job
    for _ in range(3):
        services.pause(job, by=alice)
        services.resume(job, by=alice)
    url = f"/v1/training/jobs/{job.pk}/events"
    assert follow(api, f"{url}?limit=2", "seq") == list(range(1, 8))
    first = api.get(url).json()["results"][0]
    assert (first["kind"], first["actor"], first["status"], first["stop"]) == (
        "submit",
        "alice",
        "queued",
        None,
    )
    assert follow(api, f"{url}?after=5", "seq") == [6, 7]


def test_logs_come_in_pieces(api, make_job):
    job, other = make_job(), make_job()
    texts = [f"line {number} <b>\x1b[31m\n" for number in range(5)]
    for text in texts:
        LogChunk.objects.create(job=job, attempt=1, text=text)
        LogChunk.objects.create(job=other, attempt=1, text="not this")
    assert follow(api, f"/v1/training/jobs/{job.pk}/logs?limit=2", "text") == texts


@pytest.mark.parametrize("path", ["metrics", "events", "logs"])
@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", f"after={2**63}", "limit=0", "limit=1001", "after=1.0", "page=1"]
)
def test_a_bad_cursor_is_refused_by_its_name(api, make_job, path, query):
    answer = api.get(f"/v1/training/jobs/{make_job().pk}/{path}?{query}")
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, [query.partition("=")[0]])


def test_checkpoints_are_listed_newest_first_and_can_be_pinned(api, make_job):
    job = make_job(step=8, epoch=2)
    rows = [give_checkpoint(job, step=step, epoch=step // 4, kinds=("periodic", "best")) for step in (4, 8)]
    url = f"/v1/training/jobs/{job.pk}/checkpoints"
    shown = api.get(url).json()
    assert (shown["count"], [row["step"] for row in shown["results"]]) == (2, [8, 4])
    assert shown["results"][0]["digest"] == rows[1].digest
    assert shown["results"][0]["kinds"] == ["periodic", "best"]
    assert [row["step"] for row in api.get(f"{url}?page_size=1&page=2").json()["results"]] == [4]
    one = f"{url}/{rows[0].pk}"
    assert api.patch(one, {"pinned": True}, format="json").json()["pinned"] is True
    assert api.get(one).json()["pinned"] is True
    other = make_job()
    assert api.get(f"/v1/training/jobs/{other.pk}/checkpoints/{rows[0].pk}").status_code == 404


def body_of(answer) -> bytes:
    return b"".join(answer.streaming_content)


def test_a_download_is_the_file_with_what_names_it(api, stored):
    url = f"/v1/training/jobs/{stored.job_id}/checkpoints/{stored.pk}/download"
    answer = api.get(url)
    assert body_of(answer) == CONTENT
    assert answer["Content-Length"] == str(len(CONTENT))
    name = f"job-{stored.job_id}-step-0-{stored.digest[:12]}.safetensors"
    assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer["ETag"] == f'"{stored.header_sha256}"'
    assert answer["X-Checkpoint-Digest"] == stored.digest
    Checkpoint.objects.filter(pk=stored.pk).update(header_sha256="")  # a file from before it was kept
    assert api.head(url)["ETag"] == f'"{stored.digest}"'
    Checkpoint.objects.filter(pk=stored.pk).update(header_sha256=stored.header_sha256)
    head = api.head(url)
    assert (head.content, head["Content-Length"], head["ETag"]) == (
        b"",
        answer["Content-Length"],
        answer["ETag"],
    )


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=5000000-", 206, slice(5_000_000, None)),
        ("bytes=5000000-99999999999", 206, slice(5_000_000, None)),
        ("bytes=-5", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("nonsense", 200, slice(None)),
        ("bytes=5120000-", 416, slice(0, 0)),
        ("bytes=9-3", 416, slice(0, 0)),
    ],
)
def test_a_download_goes_on_where_it_broke_off(api, stored, wanted, status, part):
    url = f"/v1/training/jobs/{stored.job_id}/checkpoints/{stored.pk}/download"
    answer = api.get(url, HTTP_RANGE=wanted)
    assert answer.status_code == status
    if status != 416:
        assert body_of(answer) == CONTENT[part]
    changed = api.get(url, HTTP_RANGE=wanted, HTTP_IF_RANGE='"another"')
    assert (changed.status_code, body_of(changed)) == (200, CONTENT)


def test_a_file_that_is_gone_is_410(api, make_job):
    checkpoints.leave_mark("of these tests")
    row = give_checkpoint(make_job(), step=0, epoch=0)
    answer = api.get(f"/v1/training/jobs/{row.job_id}/checkpoints/{row.pk}/download")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "bad_checkpoint")


@pytest.mark.django_db(transaction=True)
async def test_under_asgi_a_file_is_streamed_in_pieces(stored, alice):
    headers = {"Authorization": f"Token {await sync_to_async(token_of)(alice)}"}
    url = f"/v1/training/jobs/{stored.job_id}/checkpoints/{stored.pk}/download"
    answer = await AsyncClient().get(url, headers=headers)
    assert answer.status_code == 200, answer.content
    assert answer.is_async
    pieces = [piece async for piece in answer.streaming_content]
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) == checkpoint_files.PIECE


def test_the_docs_page_keeps_the_policy_and_loads_nothing_from_elsewhere(client, alice):
    assert client.get("/v1/docs/").status_code == 302
    assert client.get("/v1/schema/").status_code == 401
    client.force_login(alice)
    page = client.get("/v1/docs/")
    text = page.content.decode()
    assert "script-src 'self';" in page["Content-Security-Policy"]
    assert not re.search(r'(src|href)="(?![/#])', text)
    scripts = [part.split(">")[0] for part in text.split("<script")[1:]]
    assert all('src="/' in script for script in scripts)
    assert len(scripts) == 7  # the frame's four, and Swagger UI's
    script = client.get("/v1/docs/?script=")
    assert script["Content-Type"].startswith("application/javascript")
    assert "/v1/schema/" in script.content.decode()
    bundles = [script for script in scripts if "swagger-ui-" in script]
    assert len(bundles) == 2
    for script in bundles:
        static = client.get(script.split('"')[1])
        assert (static.status_code, bool(static.getvalue())) == (200, True)


def test_the_schema_is_there_as_json_and_as_yaml(api):
    schema = api.get("/v1/schema/")
    assert schema["Content-Type"].startswith("application/vnd.oai.openapi+json")
    components = schema.json()["components"]["schemas"]
    either = [one["$ref"].rpartition("/")[2] for one in components["NewJobRequest"]["oneOf"]]
    assert either == ["RecipeJobRequest", "ProgramJobRequest"]
    variants = [components[one["$ref"].rpartition("/")[2]] for one in components["RecipeJobRequest"]["oneOf"]]
    recipes = [one["properties"]["recipe"] for one in variants]
    assert any("tiny" in (one.get("const"), *one.get("enum", [])) for one in recipes)
    assert api.get("/v1/schema/", HTTP_ACCEPT="application/vnd.oai.openapi").content.startswith(
        b"openapi: 3.1.0"
    )
    shown = api.get("/v1/training/recipes").json()
    assert {"tiny", "shards"} <= {recipe["name"] for recipe in shown["results"]}
    tiny = api.get("/v1/training/recipes/tiny").json()
    assert tiny["schema"]["properties"]["epochs"]["minimum"] == 1
    assert api.get("/v1/training/recipes/none").status_code == 404
