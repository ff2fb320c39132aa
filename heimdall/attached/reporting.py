"""A script that nobody supervises here, and that asks for being reported: `heimdall.attach(..., report="name")`.

What goes there: the values that the script logs, how far it is, its config, its end, and of this machine its name,
its device and the versions of Python and torch. Nothing of what it prints, and none of its arguments.
"""

import atexit
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from heimdall import __version__
from heimdall.attached.loop import Alone, Job
from heimdall.errors import HeimdallError

if TYPE_CHECKING:
    from heimdall.client.reporting import Reporter

READ_EVERY_SECONDS = 0.5  # reading values may wait for their device


class Reported(Alone):
    """As alone: nothing is saved and nothing is stopped. What is logged goes to the reporter."""

    def __init__(self, reporter: "Reporter") -> None:
        self._reporter = reporter
        self._read_at = 0.0

    def begin(self, job: Job) -> None:
        if job.total_epochs:
            self._reporter.expect(epochs=job.total_epochs)

    def reached(self, job: Job) -> None:
        if time.monotonic() - self._read_at >= READ_EVERY_SECONDS:
            self._read(job)

    def epoch_closed(self, job: Job, values: dict[str, float | None], *, is_boundary: bool) -> None:
        self._read(job)
        self._reporter.add_epoch(job.position.epoch, job.position.steps, values)

    def read_rest(self, job: Job | None) -> None:
        if job is not None:
            self._read(job)

    def _read(self, job: Job) -> None:
        for row in job.logged.take_rows():
            step, epoch = row.pop("step"), row.pop("epoch")
            self._reporter.add(step, epoch, row)
        self._read_at = time.monotonic()


def asked_for(report: str | bool | None) -> str:
    """The name under which the script is to be reported; empty where nobody asked for it."""
    wanted: Any = os.environ.get("HEIMDALL_REPORT", "") if report is None else report
    if wanted in (False, "", "0"):
        return ""
    if int(os.environ.get("RANK") or 0):  # of several processes of one training the first reports
        return ""
    return Path(sys.argv[0] or "script").name or "script" if wanted in (True, "1") else str(wanted)


def reported(name: str, *, config: Mapping[str, Any], attached: Callable[[], Job | None]) -> Alone:
    """A host that reports; one that does nothing where it cannot, which is said on standard error.

    attached: gives the script's job at its end.
    """
    try:
        from heimdall.client import profiles
        from heimdall.client.reporting import Reporter

        profile = profiles.chosen()
        reporter = Reporter(profile, begin=_begin(name, config))
    except ImportError as error:
        _say(f"the package {error.name} is missing: pip install {error.name}")
        return Alone()
    except HeimdallError as error:
        _say(str(error))
        return Alone()
    host = Reported(reporter)
    _tell_the_end(host, reporter, attached)
    return host


def _begin(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "job_name": name,
        "config": json.loads(json.dumps(dict(config), default=str)),
        "source": platform.node() or "a machine without a name",
        "environment": {
            "device_name": device,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "heimdall": __version__,
        },
    }


def _tell_the_end(host: Reported, reporter: "Reporter", attached: Callable[[], Job | None]) -> None:
    """What the script raised is why it failed; else it ended well, as far as can be seen from here."""
    from heimdall.client.reporting import sentence_of_exception

    raised: list[str] = []
    before = sys.excepthook

    def note(kind: Any, error: Any, trace: Any) -> None:
        raised.append(sentence_of_exception(error))
        before(kind, error, trace)

    def end() -> None:
        if os.getpid() != owner:
            return
        host.read_rest(attached())
        if raised:
            reporter.fail(raised[-1])
        else:
            reporter.complete()

    owner = os.getpid()
    sys.excepthook = note
    atexit.register(end)


def _say(why: str) -> None:
    print(f"heimdall: nothing is reported: {why}", file=sys.stderr, flush=True)
