"""Start Heimdall on this machine: prepare the database, then the web server and a worker, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from setproctitle import setproctitle

from heimdall.errors import HeimdallError
from heimdall.files import write_whole
from heimdall.processes import can_be_forked, leave_the_parents_session, share_memory
from heimdall.recipes import demo, registry
from heimdall.site import env, private_files
from heimdall.site.keep_running import StartPlan, replace_this_process
from training import host, policy, services
from training.management.base import one_line
from training.management.examples import queue_examples
from training.management.listening import listen
from training.models import ApiToken, Node, TrainingJob
from training.services import tokens

ADMIN = "admin"
# What both import, and what only the web server does: an import after a fork writes into many shared pages.
SHARED = (
    "training.management.commands.worker",
    "heimdall.site.web_server",
    "heimdall.site.urls",
    "training.live.routing",
)
TOKEN_NAME = "first start"


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
            _run_both(listener)

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
            services.signing_key()
            if password:
                self._introduce(password, token)
                self._queue_demo()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {one_line(error)}.") from error

    def _queue_demo(self) -> None:
        if not settings.DEMO or TrainingJob.objects.exists():
            return
        admin = User.objects.get(username=ADMIN)
        try:
            _queue_shipped(admin)
            if settings.DEMO == env.EXAMPLES:
                list(queue_examples(admin))
        except HeimdallError as error:
            self._say(f"Not all of the demo was queued: {error}")

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
    if holder and holder.is_superuser and policy.Right.ADMIN in policy.rights_of(holder):
        return kept
    return _make_token(user)


def _make_token(user: User) -> str:
    ApiToken.objects.filter(user=user, name=TOKEN_NAME).delete()
    _, value = tokens.make_token(user, name=TOKEN_NAME)
    write_whole(token_file(), value + "\n")
    return value


def _queue_shipped(admin: User) -> None:
    """Data are made, and then a network is trained on them: the second job waits for the first one's dataset."""
    if not {one.recipe for one in demo.JOBS} <= set(registry.names()):
        return
    dataset = ""
    for one in demo.JOBS:
        config = one.config | ({"dataset": dataset} if one.reads_the_one_before else {})
        queued = services.submit(
            by=admin, job_name=one.job_name, description=one.description, recipe=one.recipe, config=config
        ).job
        dataset = queued.dataset.name if queued.dataset else ""


def address() -> str:
    return env.http_url(_reachable(), settings.PORT)


def _reachable() -> str:
    return "127.0.0.1" if settings.HOST in {"0.0.0.0", "::", ""} else settings.HOST


def _run_both(listener: socket.socket) -> None:
    """Fork worker and web server, and become the process that keeps them running. Returns in a child that is over."""
    parent, children = os.getpid(), dict[str, int]()
    if can_be_forked():
        for module in SHARED:
            import_module(module)
        connections.close_all()
        share_memory()
        for name in ("worker", "web"):
            pid = os.fork()
            if pid == 0:
                return _be(name, listener, parent)
            children[name] = pid
    replace_this_process(_plan(listener, children))


def _be(name: str, listener: socket.socket, parent: int) -> None:
    """From here on as if this process had been started by that command."""
    leave_the_parents_session()
    options = {"parent": parent}
    if name == "web":
        options["fd"] = listener.detach()
    else:
        listener.close()
    call_command(name, **options)


def _plan(listener: socket.socket, children: dict[str, int]) -> StartPlan:
    return StartPlan(
        program=sys.argv[0],
        listener=listener.fileno(),
        host=_reachable(),
        port=settings.PORT,
        host_header=settings.ALLOWED_HOSTS[0].lstrip("."),
        address=address(),
        data_folder=str(settings.DATA_DIR),
        drain_seconds=settings.DRAIN_GRACE_SECONDS,
        children=children,
    )
