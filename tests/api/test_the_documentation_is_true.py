"""Every curl example of docs/api.md is run as it stands there; its tables name what there is and nothing else."""

import json
import re
import shlex
import xml.etree.ElementTree as xml
from pathlib import Path
from string import Template

import pytest
from django.core.files.base import ContentFile
from django.test import Client

from tests.conftest import give_checkpoint
from tests.support.localizations import completed_localization, trained_parts
from tests.support.tokens import token_of
from training.api import errors
from training.api.jobs import LIST
from training.models import LogChunk, Metric

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"```sh\n(curl .*?)```", TEXT, re.DOTALL)
SHIPPED = "language_model"


@pytest.fixture
def localization(alice, node, tmp_path):
    return lambda: completed_localization(alice, node, trained_parts(tmp_path), tmp_path)


@pytest.fixture
def curl(alice, make_job, localization, every_name_is_public):
    """Does what curl would do in the repository, with a job that each example finds in the right state."""

    def run(text: str):
        job = localization() if "/locate" in text else _job_for(text, make_job)
        known = {"HEIMDALL": "", "TOKEN": token_of(alice), "JOB": job.pk}
        words = shlex.split(
            Template(text.replace("\\\n", " ")).substitute(known | {"CHECKPOINT": job.latest_checkpoint_id})
        )
        method, url, headers, body = "GET", "", {}, ""
        rest = iter(words[1:])
        for word in rest:
            match word:
                case "-s" | "-sL":
                    pass
                case "-X":
                    method = next(rest)
                case "-H":
                    name, _, value = next(rest).partition(": ")
                    headers[name] = value
                case "-d":
                    body = next(rest)
                case "--data-binary":
                    method, body = "POST", (ROOT / next(rest).removeprefix("@")).read_bytes()
                case "-o":
                    next(rest)
                case _:
                    assert word.startswith("/v1/"), f"the test does not know {word}"
                    url = word
        kind = headers.pop("Content-Type", "")
        return Client().generic(method, url, body, content_type=kind, headers=headers)

    return run


def _job_for(text: str, make_job):
    states = {"/pause": "running", "/resume": "paused", "/cancel": "running", "/restart": "failed"}
    status = next((status for verb, status in states.items() if verb in text), "completed")
    if "-X POST" in text and re.search(r"/(metrics|end) ", text):
        return make_job(job_type="external")
    job = make_job(status=status, step=0)
    row = give_checkpoint(job, step=0, epoch=0)
    row.file.storage.save(row.file.name, ContentFile(b"x"))
    Metric.objects.create(
        job=job, step=101, epoch=1, attempt=1, values={"loss": 1.0}, epoch_values={"val_loss": 2.0}
    )
    LogChunk.objects.create(job=job, attempt=1, text="hello\n")
    return job


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: " ".join(text.split())[:60])
def test_the_examples_work(curl, text):
    answer = curl(text)
    assert 200 <= answer.status_code < 300, answer.content
    if "/export" in text:
        assert next(iter(answer)) == b"id,config.epochs,lowest.val_loss\r\n"
    elif "output=kml" in text:
        places = xml.fromstring(b"".join(answer.streaming_content)).findall(".//{*}Placemark")
        assert len(places) >= 10
    elif answer.streaming:
        assert b"".join(answer.streaming_content) == b"x"
    elif "/metrics" in text and "-X POST" not in text:
        assert answer.json()["results"]


def test_there_are_examples_for_what_there_is():
    assert len(EXAMPLES) >= 15
    assert any(SHIPPED in text for text in EXAMPLES)


def rows_of(heading: str) -> list[str]:
    """The names in the first column of the first table after a heading."""
    table = re.search(r"\n\|.*?\n\n", TEXT[TEXT.index(f"\n{heading}\n") :], re.DOTALL)[0]
    cells = [line.split("|")[1] for line in table.strip().splitlines()[2:]]
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def example(heading: str) -> dict:
    """The first answer that is shown after a heading."""
    return json.loads(re.search(r"```json\n(.*?)```", TEXT[TEXT.index(f"\n{heading}\n") :], re.DOTALL)[1])


def test_the_table_of_fields_is_complete(api, make_job):
    shown = api.get(f"/v1/training/jobs/{make_job().pk}").json()
    assert sorted(rows_of("### Look at one")) == sorted(shown)


def test_the_table_of_parameters_is_complete():
    named = rows_of("### Find some")
    assert sorted(named) == sorted(param.name for param in LIST)


def test_every_address_and_method_is_listed(api):
    listed = re.findall(
        r"^\| `([A-Z, ]+)` \| `([^`]+)` \|$", TEXT[TEXT.index("## All addresses") :], re.MULTILINE
    )
    paths = api.get("/v1/schema/").json()["paths"]
    there = {path.removeprefix("/v1/training/"): set(operations) for path, operations in paths.items()}
    assert {path: set(methods.lower().split(", ")) for methods, path in listed} == there


def test_every_code_of_an_error_is_documented():
    found = set(re.findall(r"`(\w+)`", TEXT[TEXT.index("## Errors") :]))
    assert set(errors.CODE_OF_STATUS.values()) <= found
    assert {kind.code for kind in errors.STATUS_OF} - {"stale_attempt", "no_good_checkpoint"} <= found


def test_the_error_shown_is_the_error_given(api, make_job):
    shown = example("## Errors")
    given = api.post(f"/v1/training/jobs/{make_job(status='completed').pk}/pause").json()
    assert shown["error"].keys() == given["error"].keys()
    assert given["error"]["message"].startswith(shown["error"]["message"].rstrip("."))
    assert {name: shown["error"][name] for name in ("code", "status", "stop", "verbs")} == {
        name: given["error"][name] for name in ("code", "status", "stop", "verbs")
    }


def test_the_answer_of_many_is_shown_as_it_is_given(api, make_job):
    shown = example("### Many at once")
    jobs = [make_job(status="running"), make_job(status="completed")]
    body = {"verb": shown["verb"], "ids": [job.pk for job in jobs], "at": "step"}
    given = api.post("/v1/training/jobs/bulk", body, format="json").json()
    assert {**shown, "results": None} == {**given, "results": None}
    for one, other in zip(shown["results"], given["results"], strict=True):
        assert (one.keys(), one["answer"]) == (other.keys(), other["answer"])
