"""Commands that ask something of jobs: the verbs, wait, edit."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from heimdall.client.command import exits
from heimdall.client.command.base import (
    JobNumber,
    JobNumbers,
    Json,
    Timeout,
    Wait,
    client,
    command,
    complain,
    each,
    one_of,
    printable,
    say,
)
from heimdall.client.command.progress import ProgressOnScreen
from heimdall.errors import InvalidInput

LOOK_SECONDS = 0.3


@command("pause")
def pause_jobs(
    jobs: JobNumbers,
    at: Annotated[str, typer.Option(help="epoch: at its end. step: after the one under way.")] = "epoch",
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> int:
    """Pause jobs: running ones with a checkpoint, queued ones at once."""
    return ask("pause", jobs, {"at": one_of("at", at, ("epoch", "step"))}, wait, timeout, as_json)


@command("resume")
def resume_jobs(
    jobs: JobNumbers,
    checkpoint: Annotated[int | None, typer.Option(min=1, help="Go back to this older one.")] = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> int:
    """Resume paused, failed or cancelled jobs, or withdraw a pause."""
    return ask("resume", jobs, {"checkpoint": checkpoint}, wait, timeout, as_json)


@command("replay")
def replay_jobs(
    jobs: JobNumbers,
    stretches: Annotated[int, typer.Option(min=0, help="How many, at random. 0: all that were not yet.")] = 0,
    as_json: Json = False,
) -> int:
    """Have stretches of trainings trained again on idle slots, and compared bit for bit."""
    with client() as server:

        def verify(number: int) -> None:
            found = server.job(number).verify(stretches)
            sentence = f"{len(found)} replays of job {number} wait for a slot that is idle."
            say({"id": number, "replays": found}, sentence, as_json=as_json)

        return each(jobs, verify, as_json=as_json)


@command("restart")
def restart_jobs(jobs: JobNumbers, wait: Wait = False, timeout: Timeout = None, as_json: Json = False) -> int:
    """Begin failed or cancelled jobs again at step 0."""
    return ask("restart", jobs, {}, wait, timeout, as_json)


@command("cancel")
def cancel_jobs(jobs: JobNumbers, wait: Wait = False, timeout: Timeout = None, as_json: Json = False) -> int:
    """Cancel queued or running jobs."""
    return ask("cancel", jobs, {}, wait, timeout, as_json)


@command("discard")
def discard_jobs(jobs: JobNumbers, as_json: Json = False) -> int:
    """Give paused jobs up."""
    return ask("discard", jobs, {}, False, None, as_json)


@command("delete")
def delete_jobs(jobs: JobNumbers, as_json: Json = False) -> int:
    """Delete finished jobs with their history and files."""
    with client() as server:

        def delete(number: int) -> None:
            server.job(number).delete()
            say({"id": number, "deleted": True}, f"Job {number} is deleted.", as_json=as_json)

        return each(jobs, delete, as_json=as_json)


@command("edit")
def edit_job(
    job: JobNumber,
    name: Annotated[str | None, typer.Option()] = None,
    description: Annotated[str | None, typer.Option()] = None,
    priority: Annotated[int | None, typer.Option()] = None,
    pool: Annotated[str | None, typer.Option(help="Only nodes of this pool take it; '': any.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="The new tags; may be given again.")] = None,
    as_json: Json = False,
) -> None:
    """Change what is said about a job; what it computes never changes."""
    if name is description is priority is pool is None and not tag:
        raise InvalidInput(
            {"edit": ["Say what to change: --name, --description, --priority, --pool or --tag."]}
        )
    with client() as server:
        changed = server.job(job).change(
            name=name, description=description, priority=priority, pool=pool, tags=tag or None
        )
    say(changed.fields.raw, f"Job {job} is changed.", as_json=as_json)


@command("wait")
def wait_for_jobs(jobs: JobNumbers, timeout: Timeout = None, as_json: Json = False) -> int:
    """Wait until jobs are completed, failed, cancelled or paused; the exit code says how the first one ended."""
    with client() as server:
        return await_rest([server.job(number) for number in jobs], "wait", timeout, as_json)


def ask(
    verb: str,
    numbers: list[int],
    options: dict[str, Any],
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Ask all of them; then wait for those that were not refused."""
    _refuse_a_timeout_without_wait(wait, timeout)
    asked = []
    with client() as server:

        def ask_one(number: int) -> None:
            job = getattr(server.job(number), verb)(**options)
            say(job.fields.raw, job.message, as_json=as_json)
            asked.append(job)

        refused = each(numbers, ask_one, as_json=as_json)
        ended = await_rest(asked, verb, timeout, as_json) if wait else 0
    return refused or ended


def await_rest(jobs: list[Any], verb: str, timeout: float | None, as_json: bool) -> int:
    """Show each job's progress until it is at rest. The first code that is not 0."""
    end = None if timeout is None else time.monotonic() + timeout
    codes = [_await_one(job, verb, end, as_json) for job in jobs]
    return next((code for code in codes if code), 0)


def _await_one(job: Any, verb: str, end: float | None, as_json: bool) -> int:
    with ProgressOnScreen() as screen:
        while True:
            screen.show(job.fields)
            if job.fields.is_at_rest:
                break
            if end is not None and time.monotonic() >= end:
                complain(f"Job {job.id} is {job.headline}; it goes on.")
                return exits.TIMED_OUT
            time.sleep(LOOK_SECONDS)
            job.refresh()
    why = f" {printable(job.fields.error_message)}" if job.fields.error_message else ""
    say(job.fields.raw, f"Job {job.id} is {job.status}.{why}", as_json=as_json)
    return exits.of_waiting(verb, job.status)


def _refuse_a_timeout_without_wait(wait: bool, timeout: float | None) -> None:
    if timeout is not None and not wait:
        raise InvalidInput({"timeout": ["It says how long to wait: give --wait too."]})
