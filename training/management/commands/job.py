"""The command line door: `manage.py job VERB`. docs/commands.md lists the verbs and the exit codes."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from training import policy, queries, services
from training.api import params
from training.api.errors import describe
from training.api.filters import FILTERS, wanted
from training.errors import HeimdallError, InvalidInput, NotAllowed, NotFound, TransitionRefused
from training.lifecycle import TERMINAL, JobType, Status, StopAt, Verb
from training.management.progress import Progress, printable, table
from training.models import TrainingJob
from training.queries import listing
from training.queries.chosen import changeable
from training.queries.filters import Filters
from training.services.forks import CARRIES, TRAINING

REFUSED, NOT_ALLOWED, NOT_FOUND = 3, 4, 5
FAILED, CANCELLED, PAUSED = 6, 7, 8
TIMED_OUT = 124
AT_REST = {*TERMINAL, Status.PAUSED}
ENDED = {Status.COMPLETED: 0, Status.FAILED: FAILED, Status.CANCELLED: CANCELLED, Status.PAUSED: PAUSED}
LOOK_SECONDS = 0.25
DONE_SAYS = {
    Verb.PAUSE: "Pause jobs: queued ones at once, running ones with a checkpoint",
    Verb.RESUME: "Resume paused or stopped jobs, or withdraw a pause",
    Verb.RESTART: "Begin failed or cancelled jobs again at step 0",
    Verb.CANCEL: "Cancel queued or running jobs",
    Verb.DISCARD: "Give paused jobs up",
    Verb.DELETE: "Delete finished jobs with their files",
}
WATCH_SAYS = {
    "watch": "Be told what becomes of jobs, as docs/notifications.md says",
    "unwatch": "Be told no more",
}


class Command(BaseCommand):
    help = "Submit, watch and steer jobs."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

        def add(name: str, does: str, act: Callable[..., int]) -> CommandParser:
            found = verbs.add_parser(name, help=does, description=does + ".")
            found.add_argument(
                "--as",
                dest="user",
                metavar="USER",
                help="who asks (default: $HEIMDALL_USER, else the first administrator)",
            )
            found.add_argument(
                "--json", action="store_true", dest="as_json", help="print JSON, one object a line"
            )
            found.set_defaults(act=act)
            return found

        _submit_options(add("submit", "Submit a job", self.submit))
        _list_options(add("list", "List jobs, newest first", self.list))
        _id(add("show", "Show everything about a job", self.show))
        _edit_options(
            add(
                "edit",
                "Change what people said about a job: name, description, priority, pool, tags",
                self.edit,
            )
        )
        for verb in services.VERBS:
            one = add(verb, DONE_SAYS[Verb(verb)], self.ask)
            _which_options(one)
            if verb == Verb.PAUSE:
                one.add_argument(
                    "--at",
                    choices=[StopAt.EPOCH.value, StopAt.STEP.value],
                    default=StopAt.EPOCH.value,
                    help="at the end of the epoch (default), or after the step under way",
                )
            if verb == Verb.RESUME:
                one.add_argument(
                    "--checkpoint",
                    type=_whole,
                    metavar="CHECKPOINT",
                    help="its number: go back to this older one of the job",
                )
            if verb != Verb.DELETE:
                _wait_options(one, optional=True)
        _copy_options(add("clone", "Begin a job like another one from nothing", self.copy), carry=False)
        _extend_options(
            add("extend", "More epochs of a completed training, or more of a dataset", self.extend)
        )
        _copy_options(add("fork", "Begin a job from a checkpoint of another one", self.copy), carry=True)
        for word, does in WATCH_SAYS.items():
            add(word, does, self.watch).add_argument("ids", metavar="ID", type=_whole, nargs="+")
        waiting = add("wait", "Wait until a job is completed, failed, cancelled or paused", self.wait)
        _id(waiting)
        _wait_options(waiting, optional=False)
        logs = add("logs", "Print what a job's trainer printed", self.logs)
        _id(logs)
        logs.add_argument("-f", "--follow", action="store_true", help="go on until the job is at rest")
        logs.add_argument(
            "--after", type=int, default=0, metavar="CHUNK", help="only what follows this piece"
        )
        _id(add("checkpoints", "List a job's checkpoints, newest first", self.checkpoints))

    def handle(self, *args: Any, **options: Any) -> None:
        self.as_json = options["as_json"]
        self.user = user_named(options["user"])
        try:
            code = options["act"](options)
        except HeimdallError as error:
            self._refuse(error)
            raise CommandError(str(error), returncode=code_of(error)) from error
        except DatabaseError as error:
            raise CommandError(f"The database does not answer: {error}. Was it migrated?") from error
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        if code:
            sys.exit(code)

    def submit(self, options: dict[str, Any]) -> int:
        result = services.submit(
            by=self.user,
            job_name=options["name"] or options["recipe"],
            recipe=options["recipe"],
            config=config_of(options),
            description=options["description"],
            team=policy.team_named(options["team"], self.user),
            priority=options["priority"],
            pool=options["pool"],
            tags=options["tags"],
        )
        self._say(_answer(result, self.user), result.message)
        return self._wait(result.job.pk, options) if options["wait"] else 0

    def list(self, options: dict[str, Any]) -> int:
        values = {param.name: options.get(param.name) for param in FILTERS}
        found = listing.page(self.user, wanted(values), size=options["limit"]).jobs
        if self.as_json:
            for job in found:
                self._say(job, "")
            return 0
        rows = [
            (
                job["id"],
                job["headline"],
                f"{job['progress_percent']:.1f}%",
                _epochs(job),
                _loss(job),
                job["owner"],
                job["job_name"],
            )
            for job in found
        ]
        self.stdout.write(
            table(("ID", "STATE", "DONE", "EPOCHS", "LOSS", "OWNER", "NAME"), rows) if rows else "No jobs."
        )
        return 0

    def show(self, options: dict[str, Any]) -> int:
        job = queries.job_dict(self._find(options["id"]), self.user)
        lines = (f"{name:18}{_words(value)}".rstrip() for name, value in job.items())
        self._say(job, printable("\n".join(lines)))
        return 0

    def edit(self, options: dict[str, Any]) -> int:
        tags = [] if options["no_tags"] else options["tags"]
        given = {name: options[name] for name in ("job_name", "description", "priority", "pool")} | {
            "tags": tags
        }
        changes = {name: value for name, value in given.items() if value is not None}
        job = services.edit(self._find(options["id"]), by=self.user, **changes)
        said = ", ".join(sorted(changes)) or "nothing"
        self._say(queries.job_dict(job, self.user), f"Job {job.pk}: changed {said}.")
        return 0

    def ask(self, options: dict[str, Any]) -> int:
        """Ask each job; the exit code is that of the first that was refused."""
        codes = [self._ask_one(pk, options) for pk in options["ids"] or self._matching(options)]
        return next((code for code in codes if code), 0)

    def copy(self, options: dict[str, Any]) -> int:
        about = {"job_name": options["name"], "description": options["description"], "tags": options["tags"]}
        about |= {"priority": options["priority"], "pool": options["pool"]}
        about |= {"team": policy.team_named(options["team"], self.user), "config": config_of(options)}
        given = {name: value for name, value in about.items() if value is not None}
        if options["verb"] == "fork":
            given |= {"checkpoint": options["checkpoint"], "carry": options["carry"]}
        make = services.fork if options["verb"] == "fork" else services.clone
        return self._made(make(self._find(options["id"]), by=self.user, **given), options)

    def extend(self, options: dict[str, Any]) -> int:
        how_many = {name: options[name] for name in ("epochs", "samples")}
        return self._made(services.extend(self._find(options["id"]), by=self.user, **how_many), options)

    def _made(self, result: services.Result, options: dict[str, Any]) -> int:
        self._say(_answer(result, self.user), result.message)
        return self._wait(result.job.pk, options) if options["wait"] else 0

    def _matching(self, options: dict[str, Any]) -> list[int]:
        which = Filters.read(options["matching"], strictly=True).wanted(self.user)
        found, more = changeable(self.user, Verb(options["verb"]), which, most=services.MOST_AT_ONCE)
        if not found:
            self.stderr.write(f"No job that matches can be asked to {options['verb']} now.")
        if more:
            self.stderr.write(f"These are the first {len(found)} that match; ask again for the rest.")
        return found

    def _ask_one(self, pk: int, options: dict[str, Any]) -> int:
        names = {Verb.PAUSE: "at", Verb.RESUME: "checkpoint"}
        name = names.get(Verb(options["verb"]))
        more = {name: options[name]} if name else {}
        try:
            result = services.VERBS[options["verb"]](self._find(pk), by=self.user, **more)
        except HeimdallError as error:
            self._refuse(error)
            self.stderr.write(f"job {pk}: {error}")
            return code_of(error)
        if options["verb"] == Verb.DELETE:
            self._say({"id": pk, "answer": str(result.answer), "message": result.message}, result.message)
            return 0
        self._say(_answer(result, self.user), result.message)
        return self._wait(pk, options) if options["wait"] else 0

    def watch(self, options: dict[str, Any]) -> int:
        is_watched = options["verb"] == "watch"
        act = services.watch if is_watched else services.unwatch
        for job in [self._find(pk) for pk in options["ids"]]:
            act(job, by=self.user)
            said = f"{self.user} {'watches' if is_watched else 'does not watch'} job {job.pk}."
            self._say({"id": job.pk, "watched": is_watched}, said)
        return 0

    def wait(self, options: dict[str, Any]) -> int:
        return self._wait(options["id"], options)

    def logs(self, options: dict[str, Any]) -> int:
        pk, after = self._find(options["id"]).pk, options["after"]
        with _told_to_stop() as told:
            while True:
                # 1. The state first: what is printed before the job came to rest is then read below.
                at_rest = self._find(pk).status in AT_REST
                # 2. Everything that is there now.
                after = self._print_log(pk, after)
                # 3. Again, unless there is nothing more to come.
                if not options["follow"] or at_rest:
                    return 0
                if told.wait(LOOK_SECONDS):
                    return 130

    def _print_log(self, pk: int, after: int) -> int:
        while chunks := queries.log_after(pk, after, 200):
            for chunk in chunks:
                if self.as_json:
                    shape = {
                        "id": chunk.pk,
                        "attempt": chunk.attempt,
                        "text": chunk.text,
                        "created_at": queries.iso(chunk.created_at),
                    }
                    self._say(shape, "")
                else:
                    self.stdout.write(
                        printable(chunk.text) if self.stdout.isatty() else chunk.text, ending=""
                    )
            self.stdout.flush()
            after = chunks[-1].pk
        return after

    def checkpoints(self, options: dict[str, Any]) -> int:
        found = [
            queries.checkpoint_dict(row) for row in self._find(options["id"]).checkpoints.order_by("-id")
        ]
        if self.as_json:
            for row in found:
                self._say(row, "")
            return 0
        rows = [
            (
                row["id"],
                row["step"],
                row["epoch"],
                ",".join(row["kinds"]),
                _size(row["size"]),
                row["digest"][:16],
                _marks(row),
            )
            for row in found
        ]
        head = ("ID", "STEP", "EPOCH", "KINDS", "SIZE", "DIGEST", "")
        self.stdout.write(table(head, rows) if rows else "No checkpoints.")
        return 0

    def _wait(self, pk: int, options: dict[str, Any]) -> int:
        """Show the progress until the job is at rest; the exit code says how it ended."""
        shown = Progress(self.stderr, is_terminal=self.stderr.isatty())
        limit = options["timeout"]
        end = None if limit is None else time.monotonic() + limit
        with _told_to_stop() as told:
            try:
                while True:
                    # 1. Look and show.
                    job = self._find(pk)
                    shape = queries.job_dict(job, self.user)
                    shown.show(shape)
                    # 2. At rest?
                    if job.status in AT_REST:
                        break
                    # 3. Out of time, or told to stop? The job goes on in any case.
                    if end is not None and time.monotonic() >= end:
                        return TIMED_OUT
                    if told.wait(LOOK_SECONDS):
                        return 130
            finally:
                shown.close()
        self._say(
            shape,
            f"Job {pk} is {job.status}." + (f" {printable(job.error_message)}" if job.error_message else ""),
        )
        wanted = {Verb.PAUSE: Status.PAUSED, Verb.CANCEL: Status.CANCELLED, Verb.DISCARD: Status.CANCELLED}
        return 0 if job.status == wanted.get(options["verb"]) else ENDED[Status(job.status)]

    def _find(self, pk: int) -> TrainingJob:
        visible = queries.with_relations(policy.visible_jobs(self.user))
        job = visible.filter(pk=pk).first()
        if job is None:
            raise NotFound(f"There is no job {pk}.")
        return job

    def _say(self, shape: dict[str, Any], sentence: str) -> None:
        self.stdout.write(json.dumps(shape) if self.as_json else sentence)

    def _refuse(self, error: HeimdallError) -> None:
        if self.as_json:
            self.stdout.write(json.dumps(describe(error)))


def _id(parser: CommandParser) -> None:
    parser.add_argument("id", metavar="ID", type=_whole)


def _which_options(parser: CommandParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", metavar="ID", type=_whole, nargs="*", default=[])
    which.add_argument(
        "--matching",
        metavar="QUERY",
        help="jobs as the list's address has them, such as 'status=queued&tags=nightly', the first "
        f"{services.MOST_AT_ONCE}",
    )


def _submit_options(parser: CommandParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--name", default="", help="what to call the job (default: the recipe)")
    config_options(parser)
    parser.add_argument("--description", default="")
    parser.add_argument("--priority", type=int, default=0, help="-100 to 100, higher goes first")
    parser.add_argument("--pool", default="", help="only nodes of this pool take it (default: any node)")
    parser.add_argument("--team", help="a group whose members may help run the job")
    parser.add_argument(
        "--tag", dest="tags", metavar="TAG", action="append", default=[], help="may be given again"
    )
    _wait_options(parser, optional=True)


def _copy_options(parser: CommandParser, *, carry: bool) -> None:
    """What is left out is as the other job has it, but for what people say of it."""
    _id(parser)
    if carry:
        parser.add_argument("--checkpoint", type=_whole, help="its number (default: the newest good one)")
        parser.add_argument(
            "--carry",
            choices=CARRIES,
            default=TRAINING,
            help="training: everything goes on (default); weights: they and the recipe's own parts, from step 0",
        )
    parser.add_argument("--name", help="what to call the new job")
    config_options(parser)
    parser.add_argument("--description")
    parser.add_argument("--priority", type=int, help="-100 to 100, higher goes first")
    parser.add_argument("--pool", help="only nodes of this pool take it")
    parser.add_argument("--team", help="a group whose members may help run the job")
    parser.add_argument("--tag", dest="tags", metavar="TAG", action="append", help="may be given again")
    _wait_options(parser, optional=True)


def _extend_options(parser: CommandParser) -> None:
    _id(parser)
    more = parser.add_mutually_exclusive_group(required=True)
    more.add_argument("--epochs", type=_whole, metavar="N", help="how many more, of a completed training")
    more.add_argument("--samples", type=_whole, metavar="N", help="how many more, of a dataset")
    _wait_options(parser, optional=True)


def config_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="a JSON object of config fields; - reads standard input"
    )
    parser.add_argument(
        "--set",
        dest="fields",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="one config field; may be given again",
    )


def _edit_options(parser: CommandParser) -> None:
    _id(parser)
    parser.add_argument("--name", dest="job_name")
    parser.add_argument("--description")
    parser.add_argument("--priority", type=int, help="-100 to 100, higher goes first")
    parser.add_argument("--pool", help="only nodes of this pool take it; an empty one: any node")
    tags = parser.add_mutually_exclusive_group()
    tags.add_argument(
        "--tag", dest="tags", metavar="TAG", action="append", help="the new tags; may be given again"
    )
    tags.add_argument("--no-tags", action="store_true", help="take all tags away")


def _list_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--status", action="append", choices=[str(status) for status in Status], help="may be given again"
    )
    parser.add_argument("--job-type", choices=[str(kind) for kind in JobType])
    for name in ("recipe", "owner", "team", "search"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--parent", type=_whole, metavar="ID")
    parser.add_argument(
        "--ordering",
        choices=FILTERS[-1].choices,
        default="-id",
        metavar="FIELD",
        help="a minus turns it around: --ordering=-priority",
    )
    parser.add_argument("--limit", type=_whole, default=50, metavar="N", help="at most so many (50)")


def _wait_options(parser: CommandParser, *, optional: bool) -> None:
    if optional:
        parser.add_argument(
            "--wait", action="store_true", help="wait until the job is at rest, and show its progress"
        )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="wait no longer than this (exit code 124)"
    )


def _whole(text: str) -> int:
    try:
        return params.Number("number", "").read_one(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def user_named(name: str | None) -> User:
    """Who asks: anybody who can run this may read the database, so a name is enough."""
    name = name or os.environ.get("HEIMDALL_USER")
    people = User.objects.filter(is_active=True)
    try:
        user = (
            people.filter(username=name).first()
            if name
            else people.filter(is_superuser=True).order_by("pk").first()
        )
    except DatabaseError as error:
        raise CommandError(f"The database does not answer: {error}. Was it migrated?") from error
    if user is None:
        raise CommandError(
            f"There is no active user {name}."
            if name
            else "There is no administrator; say who asks: --as USER."
        )
    return user


def config_of(options: dict[str, Any]) -> dict[str, Any]:
    """What `config_options` was given: the file's fields, then the line's."""
    config = _config_file(options["config"]) if options["config"] else {}
    for text in options["fields"]:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidInput({"config": [f"{text!r} is not of the form FIELD=VALUE."]})
        try:
            config[name] = json.loads(value)
        except ValueError:
            config[name] = value
    return config


def _config_file(path: str) -> dict[str, Any]:
    try:
        with contextlib.nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8") as file:
            config = json.load(file)
    except OSError as error:
        raise InvalidInput({"config": [f"{path} cannot be read: {error.strerror}."]}) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput({"config": [f"{path} is not JSON: {error}."]}) from error
    if not isinstance(config, dict):
        raise InvalidInput({"config": [f"{path} is not an object of fields and values."]})
    return config


@contextlib.contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """A flag that SIGINT and SIGTERM set while something is waited for. The job itself never notices."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {
        number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def code_of(error: HeimdallError) -> int:
    codes = {TransitionRefused: REFUSED, NotAllowed: NOT_ALLOWED, NotFound: NOT_FOUND}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)


def _answer(result: services.Result, user: User) -> dict[str, Any]:
    more = {"task_id": result.task_id, "resumes_from": result.resumes_from}
    return (
        queries.job_dict(result.job, user) | {"answer": str(result.answer), "message": result.message} | more
    )


def _epochs(job: dict[str, Any]) -> str:
    return f"{job['current_epoch']}/{job['total_epochs']}" if job["total_epochs"] else ""


def _loss(job: dict[str, Any]) -> str:
    return "" if job["train_loss"] is None else f"{job['train_loss']:.4g}"


def _marks(row: dict[str, Any]) -> str:
    return " ".join(
        word for word, there in (("pinned", row["pinned"]), ("bad", row["quarantined_at"])) if there
    )


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def _words(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
