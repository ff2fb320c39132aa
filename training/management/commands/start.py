"""Start Heimdall on this machine: prepare the database, then the web server and a worker, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from setproctitle import setproctitle

from heimdall.files import write_whole
from heimdall.recipes import demo, registry
from heimdall.site import env, private_files
from training import host, policy, services
from training.management.base import one_line
from training.management.commands.worker import FOLDER_IS_GONE, RUNS_ALREADY
from training.management.listening import listen
from training.models import ApiToken, Node, TrainingJob
from training.services import tokens

ADMIN = "admin"
TOKEN_NAME = "first start"
READY_SECONDS = 60.0
WEB_EXIT_SECONDS = 5.0
MOST_DEATHS = 5  # of web server and worker together in a minute: one more, and everything is given up


class Command(BaseCommand):
    help = "Prepare the database, then run the web server and a worker until Ctrl-C, which lands every job."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--prepare-only",
            action="store_true",
            help="Make the database, the superuser and the token, and stop.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        setproctitle("heimdall start")
        private_files.close_to_others(settings.DATA_DIR)
        if options["prepare_only"]:
            self._prepare()
            return
        with listen() as listener:
            self._wait_for_the_last_worker()
            self._prepare()
            Site(listener, self._say).run()

    def _wait_for_the_last_worker(self) -> None:
        """Where a worker holds the data folder, ours would be refused. One that drains is about to leave it."""
        lock, deadline = host.worker_lock(), time.monotonic() + settings.DRAIN_GRACE_SECONDS + 10
        while (process := lock.holder()) is not None:
            if time.monotonic() > deadline or not _drains():
                raise CommandError(
                    f"Heimdall runs in {settings.DATA_DIR} already: its worker is process {process}. Stop it first, "
                    "or choose another folder with HEIMDALL_DATA_DIR."
                )
            time.sleep(0.1)

    def _prepare(self) -> None:
        for problem in registry.problems():
            raise CommandError(problem)
        try:
            _migrate()
            password = _make_admin()
            token = _keep_token()
            if password:
                self._introduce(password, token)
                _queue_demo()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {one_line(error)}.") from error

    def _introduce(self, password: str, token: str) -> None:
        self._say("This is the first start. The following is shown only once:")
        self._say(f"  log in as  {ADMIN}")
        self._say(f"  password   {password}")
        self._say(f"  API token  {token}  (kept in {token_file()})")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _drains() -> bool:
    try:
        return Node.objects.filter(name=settings.NODE_NAME, draining=True).exists()
    except DatabaseError:
        return False  # not migrated, so of no worker of ours
    finally:
        connection.close()


def token_file() -> Path:
    return settings.DATA_DIR / "api-token"


def _migrate() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", verbosity=0, interactive=False)


def _make_admin() -> str:
    """The new superuser's password; empty where there is a superuser."""
    if User.objects.filter(is_superuser=True).exists():
        return ""
    password = secrets.token_urlsafe(12)
    user, _ = User.objects.get_or_create(username=ADMIN)
    user.is_staff = user.is_superuser = user.is_active = True
    user.set_password(password)
    user.save()
    return password


def _keep_token() -> str:
    """The superuser's API token, kept in a file that only this account can read."""
    superusers = User.objects.filter(is_superuser=True, is_active=True).order_by("pk")
    user = superusers.filter(username=ADMIN).first() or superusers.first()
    if user is None:
        return ""
    kept = token_file().read_text(errors="replace").strip() if token_file().is_file() else ""
    holder = tokens.person_with(kept, notes_use=False)
    if holder and holder.is_superuser and policy.Right.CHANGE in policy.rights_of(holder):
        return kept
    return _make_token(user)


def _make_token(user: User) -> str:
    ApiToken.objects.filter(user=user, name=TOKEN_NAME).delete()
    _, value = tokens.make_token(user, name=TOKEN_NAME)
    write_whole(token_file(), value + "\n")
    return value


def _queue_demo() -> None:
    """Data are made, and then a network is trained on them: the second job waits for the first one's dataset."""
    shipped = {one.recipe for one in demo.JOBS} <= set(registry.names())
    if not settings.DEMO or not shipped or TrainingJob.objects.exists():
        return
    admin, dataset = User.objects.get(username=ADMIN), ""
    for one in demo.JOBS:
        config = one.config | ({"dataset": dataset} if one.reads_the_one_before else {})
        queued = services.submit(
            by=admin, job_name=one.job_name, description=one.description, recipe=one.recipe, config=config
        ).job
        dataset = queued.dataset.name if queued.dataset else ""


class Site:
    """The web server and the worker, each in a session of its own, so that Ctrl-C reaches this process alone."""

    def __init__(self, listener: socket.socket, say: Any):
        self.listener = listener
        self.say = say
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.deaths: list[float] = []
        self.stops = 0

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._asked_to_stop)
        self._start("worker")
        self._start("web")
        try:
            self._wait_until_ready()
            while not self.stops:
                self._replace_dead()
                time.sleep(0.1)
        finally:
            self._stop()

    def _asked_to_stop(self, *_: object) -> None:
        self.stops += 1
        if self.stops > 1:
            self._tell("worker", signal.SIGTERM)

    def _start(self, name: str) -> None:
        command = [sys.executable, sys.argv[0], name, "--parent", str(os.getpid())]
        passed: tuple[int, ...] = ()
        if name == "web":
            passed = (self.listener.fileno(),)
            command += ["--fd", str(self.listener.fileno())]
        self.children[name] = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.DEVNULL, pass_fds=passed
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.stops:
            for name, child in self.children.items():
                if child.poll() is not None:
                    self._give_up_without_a_worker(name, child)
                    raise CommandError(f"The {name} did not start (exit code {child.returncode}); see above.")
            if _answers():
                self.say(
                    f"Heimdall is at {address()}  (Ctrl-C stops it; running jobs go on at the next start)"
                )
                return
            if time.monotonic() > deadline:
                raise CommandError(f"The web server did not answer within {READY_SECONDS:g} s.")
            time.sleep(0.05)

    def _replace_dead(self) -> None:
        for name, child in list(self.children.items()):
            if child.poll() is None:
                continue
            self._give_up_without_a_worker(name, child)
            now = time.monotonic()
            self.deaths = [moment for moment in self.deaths if now - moment < 60] + [now]
            if len(self.deaths) > MOST_DEATHS:
                raise CommandError(
                    f"The {name} died; that is more than {MOST_DEATHS} deaths in a minute. Giving up."
                )
            self.say(f"The {name} ended ({child.returncode}); starting it again.")
            self._start(name)

    def _give_up_without_a_worker(self, name: str, child: subprocess.Popen[bytes]) -> None:
        """A worker that would end in the same way again is not started again, and pages without one serve nobody."""
        if name == "worker" and child.returncode == FOLDER_IS_GONE:
            raise CommandError("The worker has lost the data folder; see above.")
        if name == "worker" and child.returncode == RUNS_ALREADY:
            raise CommandError(f"Another worker runs in {settings.DATA_DIR} already; see above.")

    def _stop(self) -> None:
        self.say("Stopping: running jobs are checkpointed and go back to the queue.")
        for name in self.children:
            self._tell(name, signal.SIGTERM)
        stopped_at = time.monotonic()
        while self.children["worker"].poll() is None:
            if time.monotonic() - stopped_at > settings.DRAIN_GRACE_SECONDS + 10:
                self._tell("worker", signal.SIGKILL)
            time.sleep(0.02)
        while self.children["web"].poll() is None:
            if time.monotonic() - stopped_at > WEB_EXIT_SECONDS:
                self._tell("web", signal.SIGKILL)
            time.sleep(0.02)
        self.say("Stopped.")

    def _tell(self, name: str, number: int) -> None:
        child = self.children.get(name)
        if child is not None and child.poll() is None:
            child.send_signal(number)


def address() -> str:
    shown = "127.0.0.1" if settings.HOST in {"0.0.0.0", "::", ""} else settings.HOST
    return env.http_url(shown, settings.PORT)


def _answers() -> bool:
    request = urllib.request.Request(
        f"{address()}/healthz", headers={"Host": settings.ALLOWED_HOSTS[0].lstrip(".")}
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return True  # it answers, if with a redirect to https
    except OSError:
        return False
