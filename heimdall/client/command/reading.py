"""Commands that only look: ls, show, checkpoints, compare, nodes, queue, recipes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from heimdall.client.command import tables
from heimdall.client.command.base import JobNumber, JobNumbers, Json, client, command, printable, say

LONGEST_VALUE = 300


@command("ls")
def list_jobs(
    status: Annotated[list[str], typer.Option("--status", "-s", help="Only these; may be given again.")] = [],  # noqa: B006
    search: Annotated[str | None, typer.Option(help="In the name or the description.")] = None,
    tag: Annotated[list[str], typer.Option("--tag", help="With all of these; may be given again.")] = [],  # noqa: B006
    recipe: Annotated[str | None, typer.Option()] = None,
    job_type: Annotated[
        str | None, typer.Option("--type", help="training, synthetic_data or external.")
    ] = None,
    owner: Annotated[str | None, typer.Option()] = None,
    team: Annotated[str | None, typer.Option()] = None,
    pool: Annotated[str | None, typer.Option()] = None,
    where: Annotated[
        list[str],
        typer.Option(
            "--where", "-w", metavar="CONDITION", help="Such as 'config.lr<0.1' or 'lowest.val_rmse<2'."
        ),
    ] = [],  # noqa: B006
    ordering: Annotated[
        str | None,
        typer.Option(
            "--sort", "--ordering", help="A field, or metric.NAME; a minus in front turns it around."
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="With commas: id,job_name,config.lr,metric.val_rmse.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All of them into a .csv, .jsonl or .parquet.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    filters = {"status": status or None, "search": search, "recipe": recipe, "owner": owner}
    filters |= {
        "team": team,
        "pool": pool,
        "job_type": job_type,
        "ordering": ordering,
        "tags": tag,
        "where": where,
    }
    names = columns.split(",") if columns else []
    with client() as server:
        if export is not None:
            path = server.export(export, fields=names, **filters)
            say({"path": str(path)}, f"Wrote {path}.", as_json=as_json)
        elif names:
            _show_columns(names, server.table(names, most=limit, **filters), as_json)
        else:
            _show_jobs([job.fields.raw for job in server.jobs(most=limit, **filters)], as_json)


@command("queue")
def show_queue(as_json: Json = False) -> None:
    """Show what runs and what waits, in the order in which it will go, and why it waits."""
    with client() as server:
        running = [job.fields.raw for job in server.jobs(status="running")]
        queued = [job.fields.raw for job in server.jobs(status="queued")]
    queued.sort(key=_place)
    if as_json:
        for job in [*running, *queued]:
            say(job, "", as_json=True)
        return
    rows = [(job["id"], job["job_name"], job["owner"], job["priority"], job["headline"]) for job in running]
    rows += [(job["id"], job["job_name"], job["owner"], job["priority"], _why(job)) for job in queued]
    if rows:
        tables.show(
            ("ID", "NAME", "OWNER", "PRIORITY", "STATE"),
            rows,
            states=[job["status"] for job in [*running, *queued]],
        )
    else:
        print("Nothing runs and nothing waits.")


@command("show")
def show_job(job: JobNumber, as_json: Json = False) -> None:
    """Show everything about a job."""
    with client() as server:
        shown = server.job(job).fields.raw
    lines = (f"{name:18}{_words(value)}".rstrip() for name, value in shown.items())
    say(shown, "\n".join(lines), as_json=as_json)


@command("checkpoints")
def list_checkpoints(job: JobNumber, as_json: Json = False) -> None:
    """List a job's checkpoints, newest first."""
    with client() as server:
        found = [one.fields for one in server.job(job).checkpoints]
    if as_json:
        for one in found:
            say(one.raw, "", as_json=True)
        return
    rows = [
        (one.id, one.step, one.epoch, ",".join(one.kinds), tables.size(one.size), one.digest[:16])
        for one in found
    ]
    if rows:
        tables.show(("ID", "STEP", "EPOCH", "KINDS", "SIZE", "DIGEST"), rows)
    else:
        print("No checkpoints yet.")


@command("compare")
def compare_jobs(jobs: JobNumbers, as_json: Json = False) -> None:
    """Show side by side what differs between jobs: results, settings, environment."""
    with client() as server:
        found = [server.job(number).fields.raw for number in dict.fromkeys(jobs)]
    compared = [_comparable(job) for job in found]
    names = list(dict.fromkeys(name for one in compared for name in one))
    differing = {name: [one.get(name) for one in compared] for name in names}
    differing = {
        name: values for name, values in differing.items() if any(value != values[0] for value in values)
    }
    if as_json:
        say({"jobs": [job["id"] for job in found], "differ": differing}, "", as_json=True)
    elif not differing:
        print("They do not differ in what is compared.")
    else:
        rows = [(name, *map(tables.number, values)) for name, values in differing.items()]
        tables.show(("", *(f"JOB {job['id']}" for job in found)), rows)


@command("nodes")
def list_nodes(as_json: Json = False) -> None:
    """List the machines that run workers, with what each slot does."""
    with client() as server:
        found = server.nodes()
    if as_json:
        for node in found:
            say(node, "", as_json=True)
        return
    rows = [
        (
            node["name"],
            node["state"],
            f"{len(node['slots']) - node['free_slots']}/{len(node['slots'])}",
            ", ".join(node["pools"]) or "-",
            ", ".join(node.get("environments", ())) or "-",
            ", ".join(gpu["name"] for gpu in node["gpus"]) or "-",
            " ".join(f"{slot['job']}:{slot['job_name']}" for slot in node["slots"] if slot["job"]) or "-",
        )
        for node in found
    ]
    if rows:
        tables.show(("NODE", "STATE", "TAKEN", "POOLS", "ENVIRONMENTS", "GPUS", "JOBS"), rows)
    else:
        print("No worker has been seen yet.")


@command("recipes")
def list_recipes(
    recipe: Annotated[str | None, typer.Argument(help="Show the settings of this one.")] = None,
    as_json: Json = False,
) -> None:
    """List what can be trained, or the settings of one recipe."""
    with client() as server:
        found = [server.server.get(f"/v1/training/recipes/{recipe}")] if recipe else server.recipes()
    if as_json:
        for one in found:
            say(one, "", as_json=True)
    elif recipe:
        _show_settings(found[0]["schema"]["properties"])
    else:
        tables.show(("RECIPE", "TITLE"), [(one["name"], one["title"]) for one in found])


def _show_settings(settings: dict[str, Any]) -> None:
    rows = [
        (name, tables.number(one.get("default")), one.get("description", one.get("title", "")))
        for name, one in settings.items()
    ]
    tables.show(("SETTING", "DEFAULT", ""), rows)


def _show_columns(names: list[str], found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for job in found:
            say(job, "", as_json=True)
    elif found:
        rows = [[tables.number(job[name]) for name in names] for job in found]
        tables.show([name.upper() if "." not in name else name for name in names], rows)
    else:
        print("No jobs.")


def _show_jobs(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for job in found:
            say(job, "", as_json=True)
        return
    rows = [
        (
            job["id"],
            job["headline"],
            f"{job['progress_percent']:.0f}%",
            f"{job['current_epoch']}/{job['total_epochs']}" if job["total_epochs"] else "",
            tables.number(job["train_loss"]),
            job["owner"],
            job["job_name"],
        )
        for job in found
    ]
    if rows:
        head = ("ID", "STATE", "DONE", "EPOCHS", "LOSS", "OWNER", "NAME")
        tables.show(head, rows, states=[job["status"] for job in found])
    else:
        print("No jobs.")


def _place(job: dict[str, Any]) -> tuple[float, int]:
    ahead = (job["waiting"] or {}).get("ahead")
    return (float("inf") if ahead is None else ahead, job["id"])


def _why(job: dict[str, Any]) -> str:
    return (job["waiting"] or {}).get("message") or job["headline"]


def _comparable(job: dict[str, Any]) -> dict[str, Any]:
    names = (
        "job_name",
        "recipe",
        "status",
        "current_step",
        "train_loss",
        "val_loss",
        "best_val_loss",
        "best_epoch",
    )
    parts = [{name: job[name] for name in names}, _program(job)]
    parts += [
        {f"{part}.{name}": value for name, value in (job[part] or {}).items()}
        for part in ("metrics", "config")
    ]
    parts += [{f"environment.{name}": value for name, value in (job["environment"] or {}).items()}]
    digest = (job["checkpoint"] or {}).get("digest")
    return {name: value for part in parts for name, value in part.items()} | {
        "digest": digest and digest[:16]
    }


def _program(job: dict[str, Any]) -> dict[str, Any]:
    """What tells programs apart; an older server has none."""
    program, code = job.get("program"), job.get("code")
    if not program:
        return {}
    facts = {name: program.get(name) or None for name in ("directory", "environment", "hook", "variables")}
    own = {
        "command": shlex.join(program["command"]),
        "code": code and code[:12],
        "promise": job.get("promise"),
    }
    return own | {f"program.{name}": value for name, value in facts.items()}


def _words(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}...")
