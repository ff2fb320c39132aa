"""Names, paths and what a library says stay data in the log: no line that nobody logged, no command to a terminal."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re

import pytest
from django.conf import settings
from django.test import Client

from heimdall.errors import InvalidInput
from training import services

FORGED = "12:00:00 INFO    training.services: Job 1 was deleted by root."
HOSTILE = {
    "newline": f"name\n{FORGED}",
    "carriage return": f"name\r{FORGED}",
    "both": f"name\r\n{FORGED}",
    "line separator": f"name\u2028{FORGED}",
    "next line": f"name\x85{FORGED}",
    "form feed": f"name\x0c{FORGED}",
    "clears the screen": "name\x1b[2J\x1b[H",
    "one-byte escape": "name\x9b2J",
    "sets the title": "name\x1b]0;owned\x07",
    "backspaces": "name\x08\x08\x08\x08good",
    "nul": "na\x00me",
    "turned round": "name\u202egpj.exe",
    "isolated": "name\u2066hidden\u2069",
    "half a pair": "name\ud800",
    "script": "<script>alert(1)</script>",
}
LINE = re.compile(
    r"(?:[0-9:]{8} [A-Z]+ +[\w.]+: |    \| )[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*"
)


@pytest.fixture(params=["text", "json"])
def log(request, monkeypatch):
    """The handler of the settings, with this formatter, on a logger of its own: log(message, ...) is its lines."""
    config = {name: settings.LOGGING[name] for name in ("version", "formatters", "filters", "handlers")}
    console = config["handlers"]["console"] | {"formatter": request.param, "stream": (out := io.StringIO())}
    name = f"tests.forged.{request.param}"
    config |= {"handlers": {"console": console}, "disable_existing_loggers": False}
    logging.config.dictConfig(config | {"loggers": {name: {"handlers": ["console"], "propagate": False}}})

    def write(*args, **options) -> list[str]:
        logging.getLogger(name).warning(*args, **options)
        text = out.getvalue()
        assert text.endswith("\n")
        return text.removesuffix("\n").split("\n")

    write.kind = request.param
    return write


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_stays_within_its_line(log, text):
    lines = log("Job %s landed", text, extra={"verb": text})
    if log.kind == "json":
        (line,) = lines
        assert line.isascii()
        assert json.loads(line)["message"] == f"Job {text} landed"
    else:
        assert all(LINE.fullmatch(line) for line in lines), lines
        assert sum(bool(re.match("[0-9]", line)) for line in lines) == 1


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_so_does_what_an_error_says(log, text):
    try:
        raise ValueError(text)
    except ValueError:
        lines = log("It broke", exc_info=True)
    if log.kind == "json":
        assert len(lines) == 1
    else:
        assert all(LINE.fullmatch(line) for line in lines), lines
        assert sum(bool(re.match("[0-9]", line)) for line in lines) == 1


def test_the_secret_key_is_not_written_even_if_somebody_logs_it(log):
    (line,) = log("settings: %s", {"key": settings.SECRET_KEY})
    assert settings.SECRET_KEY not in line
    assert "********" in line


def test_a_text_that_is_harmless_is_left_as_it_is(log):
    text = "Aquila di Giaveno, \u00e9\u4e2d\u05d0, 3 < 4"
    (line,) = log("%s", text)
    assert text in (json.loads(line)["message"] if log.kind == "json" else line)


@pytest.mark.django_db
@pytest.mark.parametrize("text", [text for name, text in HOSTILE.items() if name != "half a pair"])
def test_pages_and_admin_show_a_name_as_text(admin_user, text):
    """Names with hidden characters are refused; what is taken is shown and never run."""
    if not text.isprintable():
        with pytest.raises(InvalidInput):
            services.submit(by=admin_user, job_name=text, recipe="tiny", config={})
        return
    job = services.submit(by=admin_user, job_name=text, recipe="tiny", config={}, description=text).job
    client = Client()
    client.force_login(admin_user)
    shown = 0
    admin = "/admin/training/trainingjob/"
    ours = ["/", f"/jobs/{job.pk}/", f"/jobs/{job.pk}/cancel/"]
    for url in (*ours, admin, f"{admin}{job.pk}/change/", f"{admin}{job.pk}/do/cancel/"):
        page = client.get(url).content.decode()
        assert "<script>alert" not in page
        shown += "&lt;script&gt;alert" in page
    assert shown >= 5
