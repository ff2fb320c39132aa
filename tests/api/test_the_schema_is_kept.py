"""Schemathesis asks the API everything that its schema allows, and much that it does not: it finds nothing.

`make schemathesis` asks with 50 examples an operation; the suite with fewer.
"""

from __future__ import annotations

import logging
import os
import tomllib
from pathlib import Path

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.core.files.base import ContentFile
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from tests.conftest import ALL_STATES, give_checkpoint
from tests.support.tokens import token_of

EXAMPLES = int(os.environ.get("HEIMDALL_FUZZ_EXAMPLES", "0"))
SETTINGS = Path(__file__).parents[2] / "schemathesis.toml"


@pytest.mark.timeout(3600 if EXAMPLES else 300)
@pytest.mark.usefixtures("every_name_is_public")
@pytest.mark.parametrize("role", ["anonymous", "owner", "stranger"])
def test_schemathesis_finds_nothing(transactional_db, make_job, alice, mallory, settings, role):
    settings.ALLOWED_HOSTS = ["*"]
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"DEFAULT_THROTTLE_RATES": {"verbs": "999999/s"}}
    jobs = [make_job(status=status, stop=stop) for status, stop in ALL_STATES]
    for job in jobs:
        row = give_checkpoint(job, step=0, epoch=0)
        row.file.storage.save(row.file.name, ContentFile(b"x"))
    user = {"owner": alice, "stranger": mallory}.get(role)
    config = configured(user, [job.pk for job in jobs])
    schema = schemathesis.openapi.from_asgi(
        "/v1/schema/", get_asgi_application(), config=config, headers=login(alice)
    )
    logging.getLogger("django.request").setLevel(logging.ERROR)  # refusals are what is wanted here
    problems, num_cases = [], 0
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError | FatalError):
            problems.append(str(getattr(event, "value", event)) or repr(event))
        if isinstance(event, ScenarioFinished):
            num_cases += len(event.recorder.cases)
            problems += list(failures(event))
    print(f"\n{num_cases} requests as {role}, seed {config.seed}")
    assert not problems, f"seed {config.seed}:\n" + "\n\n".join(problems[:20])
    assert num_cases > (2_000 if role == "owner" else 50)


def login(user: User) -> dict[str, str]:
    return {"Authorization": f"Token {token_of(user)}"}


def configured(user: User | None, job_ids: list[int]) -> SchemathesisConfig:
    """The settings of the command line, here, with numbers of jobs that exist."""
    settings = tomllib.loads(SETTINGS.read_text())
    settings |= {
        "headers": login(user) if user else {},
        "generation": {"max-examples": EXAMPLES or 3},
        "dictionaries": {"jobs": {"values": job_ids}},
        "parameters": {"path.id": {"dictionary": "jobs", "probability": 0.8}},
        "continue-on-failure": True,
    }
    if not EXAMPLES:
        shorten(settings, everything=user is not None and user.username == "alice")
    return SchemathesisConfig.from_dict(settings)


def shorten(settings: dict, *, everything: bool) -> None:
    """What the suite has time for: the owner meets every border case but the thousands of a job's config."""
    settings["seed"] = 20_251
    settings["phases"] = {
        "coverage": {"enabled": everything},
        "stateful": {"generation": {"max-examples": 3}},
    }
    for operation in settings["operations"]:
        if operation["include-operation-id"] in {"submit_job", "try_submission"}:
            operation |= {
                "phases": {"coverage": {"enabled": False}},
                "generation": {"max-examples": 20},
            }


def failures(event: ScenarioFinished):
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                yield f"{check.name}: {failure.title}\n{failure.message}\n{check.failure_info.code_sample}"
