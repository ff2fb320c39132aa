"""The Python that a program runs in: the worker's own, one that the host names, or one that uv builds from the code.

What uv builds belongs to the content of the files that it was built from, and to the worker's Python: it is built
once, used by every job with the same files, and removed when no attempt has used it for a while. An attempt holds a
lock on the one that it uses.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import uv
from django.conf import settings

from heimdall.attached.program import NO_SOURCES, UV, environment_sources
from heimdall.errors import HeimdallError
from heimdall.trainer.launch import base_environment, kill_session
from training.models import TrainingJob

BUILD_SECONDS = 3_600.0
UNUSED_SECONDS = 30 * 86_400.0
LAST_LINES = 15
NEEDED_BY_SCRIPTS = ("torch", "numpy", "pydantic")  # what heimdall.attach() imports
_READY = "ready"


class NoSuchEnvironment(HeimdallError):
    """A program is to be run in an environment that this host does not have."""

    code = "no_such_environment"


class EnvironmentFailed(HeimdallError):
    """An environment could not be built, or lacks what a script needs."""

    code = "environment_failed"


@dataclass
class ProgramEnvironment:
    """An interpreter, and what keeps it from being removed while it is used."""

    python: str
    _lock: IO[str] | None = None

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()


class EnvironmentSearch:
    """Finds or builds what a job's program runs in. `run` takes long and belongs into a thread; `stop` ends it."""

    def __init__(self, job: TrainingJob, folder: Path):
        self._program, self._folder = job.program, folder
        self._said: deque[str] = deque()
        self._uv: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def run(self) -> ProgramEnvironment:
        name = self._program["environment"]
        found = self._built() if name == UV else _named(name)
        if self._program["kind"] == "script":
            try:
                _require_packages(found.python)
            except BaseException:
                found.close()
                raise
        return found

    def stop(self) -> None:
        self._is_stopped = True
        if self._uv is not None:
            kill_session(self._uv.pid)

    def take_log(self) -> str:
        """What uv said since it was asked last."""
        return "".join(self._said.popleft() for _ in range(len(self._said)))

    def _built(self) -> ProgramEnvironment:
        names = {
            path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file()
        }
        sources = environment_sources(names, self._program["directory"])
        if not sources:
            raise EnvironmentFailed(NO_SOURCES)
        place = _home() / f"{_digest(self._folder, sources)}.env"
        place.parent.mkdir(0o700, parents=True, exist_ok=True)
        lock = open(_lock_path(place), "a")  # noqa: SIM115 (held as long as the environment is used)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)  # all who use it hold this one
            if not (place / _READY).exists():
                fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time; whoever waited may find it ready
                if not (place / _READY).exists():
                    shutil.rmtree(place, ignore_errors=True)
                    self._build(sources, place, lock)
                    (place / _READY).touch()
                fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(place / _READY)
        except BaseException:
            lock.close()
            raise
        return ProgramEnvironment(str(place / "venv" / "bin" / "python"), lock)

    def _build(self, sources: tuple[str, ...], place: Path, lock: IO[str]) -> None:
        project = place / "project"
        project.mkdir(parents=True)
        for source in sources:
            shutil.copy(self._folder / source, project / Path(source).name)
        self._said.append(f"Building the environment of {sources[0]} with uv.\n")
        started = time.monotonic()
        for arguments in _arguments(project, Path(sources[0]).name, str(place / "venv")):
            self._run_uv(arguments, project, place / "venv", lock)
        self._said.append(f"The environment was built in {time.monotonic() - started:.0f} s.\n")

    def _run_uv(self, arguments: list[str], project: Path, venv: Path, lock: IO[str]) -> None:
        """Run uv, and keep what it says. It holds the lock, too, should this process die before it."""
        self._uv = subprocess.Popen(
            [uv.find_uv_bin(), *arguments, "--no-progress", "--color", "never"],
            cwd=project,
            env=_build_environment(str(venv)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
        if self._is_stopped:
            kill_session(self._uv.pid)
        too_long = threading.Timer(BUILD_SECONDS, kill_session, [self._uv.pid])
        too_long.start()
        last: deque[str] = deque(maxlen=LAST_LINES)
        assert self._uv.stdout is not None
        with self._uv.stdout as said:
            for line in said:
                self._said.append(line)
                last.append(line.rstrip())
        code = self._uv.wait()
        too_long.cancel()
        if code:
            why = (
                f"exit code {code}"
                if code > 0
                else f"ended by a signal, at the latest after {BUILD_SECONDS:g} s"
            )
            raise EnvironmentFailed(
                f"uv could not build the environment ({why}). Its last lines:\n" + "\n".join(last)
            )


def sweep_environments() -> None:
    """Remove environments that no attempt has used for a while, and builds that were killed."""
    for folder in _home().glob("*.env"):
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
            if lock is not None and _age(folder) > UNUSED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
                _lock_path(folder).unlink(missing_ok=True)


def _named(name: str) -> ProgramEnvironment:
    python = settings.ENVIRONMENTS.get(name)
    if python is None:
        known = ", ".join(settings.ENVIRONMENTS) or "none"
        raise NoSuchEnvironment(
            f"The worker of {settings.NODE_NAME} has no environment {name!r} (HEIMDALL_ENVIRONMENTS: {known})."
        )
    if not os.access(python, os.X_OK):
        raise NoSuchEnvironment(
            f"{python}, the environment {name!r} of {settings.NODE_NAME}, cannot be started."
        )
    return ProgramEnvironment(python)


def _arguments(project: Path, main: str, venv: str) -> list[list[str]]:
    """What uv is run with, one after the other."""
    if main == "requirements.txt":
        constraints = ["-c", "constraints.txt"] if (project / "constraints.txt").exists() else []
        return [["venv", venv], ["pip", "install", "-r", main, *constraints]]
    frozen = ["--frozen"] if main == "uv.lock" else []
    return [["sync", "--no-install-project", "--no-dev", *frozen]]


def _build_environment(venv: str) -> dict[str, str]:
    passed = _plain_environment()
    path = os.pathsep.join([os.path.dirname(sys.executable), passed.get("PATH", os.defpath)])
    return passed | {
        "PATH": path,
        "VIRTUAL_ENV": venv,
        "UV_PROJECT_ENVIRONMENT": venv,
        "UV_CACHE_DIR": str(_home() / "cache"),
        "UV_PYTHON_DOWNLOADS": "never",
    }


def _plain_environment() -> dict[str, str]:
    """Nothing of Heimdall's own settings: a package that is built runs code of other people, and one that is
    installed may run some whenever its Python starts (.pth files, sitecustomize)."""
    passed = base_environment(os.environ)
    for name in ("PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV"):
        passed.pop(name, None)
    return passed


def _require_packages(python: str) -> None:
    """A script in an environment without them would only crash its trainer, again and again."""
    asked = f"import importlib.util as u; print(*[n for n in {NEEDED_BY_SCRIPTS} if u.find_spec(n) is None])"
    try:
        done = subprocess.run(
            [python, "-c", asked],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            stdin=subprocess.DEVNULL,
            env=_plain_environment(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentFailed(f"The environment's Python, {python}, cannot be started: {error}.") from error
    if missing := done.stdout.split():
        raise EnvironmentFailed(
            f"The environment lacks {' and '.join(missing)}, which heimdall.attach() needs: add "
            f"{'it' if len(missing) == 1 else 'them'} to what the environment is built from."
        )


def _digest(folder: Path, sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256(f"{sys.version}\n{sys.base_prefix}\n".encode())
    for source in sources:
        content = (folder / source).read_bytes()
        digest.update(f"{Path(source).name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


def _home() -> Path:
    return Path(settings.DATA_DIR) / "environments"


def _lock_path(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _age(folder: Path) -> float:
    ready = folder / _READY
    return time.time() - (ready if ready.exists() else folder).stat().st_mtime


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[IO[str] | None]:
    """The lock of an environment; None where somebody uses it."""
    with open(_lock_path(folder), "a") as lock:
        try:
            fcntl.flock(lock, how)
        except OSError:
            yield None
        else:
            yield lock
