"""The command line door: `manage.py job VERB`. docs/commands.md lists the verbs and the exit codes."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from training import policy, queries, services
from training.errors import NotFound
from training.fields import NAME_LENGTH
from training.lifecycle import TERMINAL, Status, Verb
from training.management import config_options, program_options
from training.management import job_options as takes
from training.management.base import NOT_ALLOWED, NOT_FOUND, REFUSED, VerbCommand, whole
from training.management.examples import queue_examples
from training.management.progress import ProgressLine, printable, table
from training.models import TrainingJob
from training.presentation.filters import FILTERS, wanted
from training.queries import job_list
from training.queries.bulk_selection import changeable
from training.queries.filters import Filters

__all__ = ["NOT_ALLOWED", "NOT_FOUND", "REFUSED", "Command"]
UNREADABLE = 2  # as argparse ends for a line that cannot be read
FAILED, CANCELLED, PAUSED = 6, 7, 8
TIMED_OUT, TOLD_TO_STOP = 124, 130
AT_REST = {*TERMINAL, Status.PAUSED}
ENDED = {Status.COMPLETED: 0, Status.FAILED: FAILED, Status.CANCELLED: CANCELLED, Status.PAUSED: PAUSED}
AS_ASKED: dict[str, Status] = {
    Verb.PAUSE: Status.PAUSED,
    Verb.CANCEL: Status.CANCELLED,
    Verb.DISCARD: Status.CANCELLED,
}  # else a job that is waited for should end completed
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


class Command(VerbCommand):
    help = "Submit, watch and steer jobs."

    def add_verbs(self) -> None:
        takes.of_submit(self.add_verb("submit", "Submit a job", self.submit))
        takes.of_list(self.add_verb("list", "List jobs, newest first", self.list))
        takes.job_number(self.add_verb("show", "Show everything about a job", self.show))
        does = "Change what people said about a job: name, description, priority, pool, tags"
        takes.of_edit(self.add_verb("edit", does, self.edit))
        for verb in services.VERBS:
            takes.of_asking(self.add_verb(verb, DONE_SAYS[Verb(verb)], self.ask), Verb(verb))
        clone = self.add_verb("clone", "Begin a job like another one from nothing", self.copy)
        takes.of_copy(clone, carry=False)
        takes.of_check(self.add_verb("check", "Check whether a job's script is resumed exactly", self.check))
        more = "More epochs of a completed training, or more of a dataset"
        takes.of_extend(self.add_verb("extend", more, self.extend))
        fork = self.add_verb("fork", "Begin a job from a checkpoint of another one", self.copy)
        takes.of_copy(fork, carry=True)
        self.add_verb("examples", "Queue the example programs of this checkout", self.examples)
        for word, does in WATCH_SAYS.items():
            self.add_verb(word, does, self.watch).add_argument("ids", metavar="ID", type=whole, nargs="+")
        waiting = self.add_verb(
            "wait", "Wait until a job is completed, failed, cancelled or paused", self.wait
        )
        takes.job_number(waiting)
        takes.of_waiting(waiting, optional=False)
        takes.of_logs(self.add_verb("logs", "Print what a job's trainer printed", self.logs))
        takes.job_number(
            self.add_verb("checkpoints", "List a job's checkpoints, newest first", self.checkpoints)
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options.get("timeout") is not None and not options.get("wait", True):
            raise CommandError("--timeout says how long to wait: give --wait too.", returncode=UNREADABLE)
        super().handle(*args, **options)

    def submit(self, options: dict[str, Any]) -> int:
        words = options["recipe"]
        if options["program"]:
            what = program_options.read(options, by=self.user)
        else:
            program_options.require_none(options)
            what = {"recipe": words[0]}
        result = services.submit(
            by=self.user,
            job_name=options["name"] or " ".join(words)[:NAME_LENGTH],
            **what,
            config=config_options.read(options),
            description=options["description"],
            team=policy.team_named(options["team"], self.user),
            priority=options["priority"],
            pool=options["pool"],
            tags=options["tags"],
        )
        self.say(_answer(result, self.user), result.message)
        return self._wait([result.job.pk], options)

    def examples(self, options: dict[str, Any]) -> int:
        for result in queue_examples(self.user):
            self.say(_answer(result, self.user), f"{result.message} {result.job.job_name}.")
        return 0

    def list(self, options: dict[str, Any]) -> int:
        values = {param.name: options.get(param.name) for param in FILTERS}
        found = job_list.page(self.user, wanted(values), size=options["limit"]).jobs
        if self.as_json:
            for job in found:
                self.say(job, "")
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
        self.say(job, printable("\n".join(lines)))
        return 0

    def edit(self, options: dict[str, Any]) -> int:
        tags = [] if options["no_tags"] else options["tags"]
        given = {name: options[name] for name in ("job_name", "description", "priority", "pool")} | {
            "tags": tags
        }
        changes = {name: value for name, value in given.items() if value is not None}
        if not changes:
            what = "--name, --description, --priority, --pool, --tag or --no-tags"
            raise CommandError(f"Say what to change: {what}.", returncode=UNREADABLE)
        job = services.edit(self._find(options["id"]), by=self.user, **changes)
        self.say(queries.job_dict(job, self.user), f"Job {job.pk}: changed {', '.join(sorted(changes))}.")
        return 0

    def ask(self, options: dict[str, Any]) -> int:
        """All are asked before one is waited for."""
        noted: list[int] = []

        def ask_one(pk: int) -> None:
            self._ask_one(pk, options)
            noted.append(pk)

        refused = self.each("job", options["ids"] or self._matching(options), ask_one)
        ended = self._wait(noted, options)
        return refused or ended

    def copy(self, options: dict[str, Any]) -> int:
        about = {"job_name": options["name"], "description": options["description"], "tags": options["tags"]}
        about |= {"priority": options["priority"], "pool": options["pool"]}
        about |= {
            "team": policy.team_named(options["team"], self.user),
            "config": config_options.read(options),
        }
        given = {name: value for name, value in about.items() if value is not None}
        if options["verb"] == "fork":
            given |= {"checkpoint": options["checkpoint"], "carry": options["carry"]}
        make = services.fork if options["verb"] == "fork" else services.clone
        return self._made(make(self._find(options["id"]), by=self.user, **given), options)

    def extend(self, options: dict[str, Any]) -> int:
        how_many = {name: options[name] for name in ("epochs", "samples")}
        return self._made(services.extend(self._find(options["id"]), by=self.user, **how_many), options)

    def check(self, options: dict[str, Any]) -> int:
        found = self._find(options["id"])
        return self._made(services.check(found, by=self.user, steps=options["steps"]), options)

    def _made(self, result: services.Result, options: dict[str, Any]) -> int:
        self.say(_answer(result, self.user), result.message)
        return self._wait([result.job.pk], options)

    def _matching(self, options: dict[str, Any]) -> list[int]:
        which = Filters.read(options["matching"], strictly=True).wanted(self.user)
        found, more = changeable(self.user, Verb(options["verb"]), which, most=services.MOST_AT_ONCE)
        if not found:
            self.stderr.write(f"No job that matches can be asked to {options['verb']} now.")
        if more:
            self.stderr.write(f"These are the first {len(found)} that match; ask again for the rest.")
        return found

    def _ask_one(self, pk: int, options: dict[str, Any]) -> None:
        names = {Verb.PAUSE: "at", Verb.RESUME: "checkpoint"}
        name = names.get(Verb(options["verb"]))
        more = {name: options[name]} if name else {}
        result = services.VERBS[options["verb"]](self._find(pk), by=self.user, **more)
        if options["verb"] == Verb.DELETE:
            self.say({"id": pk, "answer": str(result.answer), "message": result.message}, result.message)
        else:
            self.say(_answer(result, self.user), result.message)

    def watch(self, options: dict[str, Any]) -> int:
        is_watched = options["verb"] == "watch"
        act = services.watch if is_watched else services.unwatch

        def ask_one(pk: int) -> None:
            act(self._find(pk), by=self.user)
            message = f"{self.user} {'watches' if is_watched else 'does not watch'} job {pk}."
            self.say({"id": pk, "watched": is_watched}, message)

        return self.each("job", options["ids"], ask_one)

    def wait(self, options: dict[str, Any]) -> int:
        return self._wait([options["id"]], options)

    def logs(self, options: dict[str, Any]) -> int:
        pk, after = self._find(options["id"]).pk, options["after"]
        with _stop_signals() as stop:
            while True:
                # 1. The state first: what is printed before the job came to rest is then read below.
                at_rest = self._find(pk).status in AT_REST
                # 2. Everything that is there now.
                after = self._print_log(pk, after)
                # 3. Again, unless there is nothing more to come.
                if not options["follow"] or at_rest:
                    return 0
                if stop.wait(LOOK_SECONDS):
                    return TOLD_TO_STOP

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
                    self.say(shape, "")
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
                self.say(row, "")
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

    def _wait(self, numbers: list[int], options: dict[str, Any]) -> int:
        """Wait for these jobs, where that was asked for. The exit code of the first that did not end as it should."""
        if not options.get("wait", options["verb"] == "wait"):
            return 0
        end = None if options["timeout"] is None else time.monotonic() + options["timeout"]
        codes = []
        with _stop_signals() as stop:
            for pk in numbers:
                codes.append(self._wait_for(pk, options["verb"], end, stop))
                if stop.is_set():
                    return TOLD_TO_STOP
        return next((code for code in codes if code), 0)

    def _wait_for(self, pk: int, verb: str, end: float | None, stop: threading.Event) -> int:
        """Show the progress until the job is at rest; the exit code says how it ended."""
        shown = ProgressLine(self.stderr, is_terminal=self.stderr.isatty())
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
                if stop.wait(LOOK_SECONDS):
                    return TOLD_TO_STOP
        finally:
            shown.close()
        why = f" {printable(job.error_message)}" if job.error_message else ""
        self.say(shape, f"Job {pk} is {job.status}.{why}")
        return 0 if job.status == AS_ASKED.get(verb) else ENDED[Status(job.status)]

    def _find(self, pk: int) -> TrainingJob:
        visible = queries.with_relations(policy.visible_jobs(self.user))
        job = visible.filter(pk=pk).first()
        if job is None:
            raise NotFound(f"There is no job {pk}.")
        return job


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """A flag that SIGINT and SIGTERM set while something is waited for. The job itself never notices."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
