"""The groups of figures. Each measures in processes of its own and returns lines of the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from threading import Timer
from typing import Any

from bench import reads as reading
from bench import wakeup as waking
from bench.figure import Figure, bounds_of_median, median_of, quantile

ROOT = Path(__file__).resolve().parents[1]
STOPPED = 400.0  # seconds that one process may take

_ON_ONE_CORE = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))  # of util-linux

Measure = Callable[[], list[Figure]]


def loop() -> list[Figure]:
    """Our loop and a bare one take turns, step by step, in one process with one thread."""
    ours = _python("bench.loops", "heimdall")
    found = [
        Figure("loop", "a step, of a bare PyTorch step", ours["ratio"], "x", 1.01, tuple(ours["bounds"]),
               f"bare {ours['bare_ms']:.3f} ms", "the upper bound counts; 1 thread")
    ]  # fmt: skip
    for peer in ("lightning", "transformers"):
        theirs = _python("bench.loops", peer)
        if "missing" in theirs:
            found.append(Figure("loop", f"{peer}, of a bare step", None, "x", note=theirs["missing"]))
        else:
            found.append(Figure("loop", f"{peer}, of a bare step", theirs["ratio"], "x", note="a peer"))
    return found


def scripts() -> list[Figure]:
    """A loop and two Trainers, attached, beside the same without it."""
    steps = os.environ.get("BENCH_STEPS", "3000")
    of = {f"job.batches, {name}": each for name, each in _python("bench.scripts", "loop", steps).items()}
    of |= {f"{who}, attached": _python("bench.scripts", who, "300") for who in ("transformers", "lightning")}
    return [
        Figure("scripts", f"{name}: of the same without", each["ratio"], "x", 1.01, tuple(each["bounds"]),
               f"bare {each['bare_ms']:.3f} ms", f"{each['more_us']:+.1f} us a step")
        for name, each in of.items()
    ]  # fmt: skip


def snapshot() -> list[Figure]:
    found: list[Figure] = []
    for megabytes in (10, 100, 1000):
        of = _python("bench.snapshot", str(megabytes))
        peers = ", ".join(_peer(name, of[name], of["memcpy"]) for name in ("torch.save", "dcp.async_save"))
        state = f"{megabytes} MB"
        found += [
            Figure("snapshot", f"held by a checkpoint of {state}, of memcpy", of["held_ratio"], "x", 1.2,
                   peer=peers, note=f"{of['held']:.1f} ms"),
            Figure("snapshot", f"durable, {state}, of raw write + fsync", of["durable_ratio"], "x", 1.25,
                   note=f"{of['durable']:.0f} ms"),
            Figure("snapshot", f"longest step beside the writer, {state}", of["longest_step"], "ms", 15,
                   peer=f"no writer {of['longest_step_alone']:.1f} ms"),
        ]  # fmt: skip
    return found


def ranks() -> list[Figure]:
    """Two processes that train together, beside DistributedDataParallel as it comes."""
    step, held = _python("bench.ranks", "step"), _python("bench.ranks", "held")
    found = [
        Figure("ranks", "a step on 2 devices, of a bare DDP step", step["ratio"], "x", 1.02, tuple(step["bounds"]),
               f"bare {step['bare_ms']:.2f} ms", "gloo, 1 thread each; the upper bound counts"),
        Figure("ranks", "stopping together, of a step without", step["together"], "x", 1.01,
               note=f"{step['meet_us']:.1f} us a step"),
        Figure("ranks", f"held by a sharded checkpoint of {held['megabytes']:.0f} MB, of memcpy of a share",
               held["ratio"], "x", 1.2, note=f"{held['held_ms']:.1f} ms on 2 ranks"),
    ]  # fmt: skip
    for peer in ("lightning", "accelerate"):
        theirs = _python("bench.ranks", peer)
        missing = theirs.get("missing", "a peer, under torchrun")
        found.append(Figure("ranks", f"{peer}, of a bare DDP step", theirs.get("ratio"), "x", note=missing))
    return found


def hashing() -> list[Figure]:
    """States that are hashed between checkpoints: what of the time goes into it, on all threads."""
    of = _python("bench.hashing", "15")
    return [
        Figure("hashing", "states hashed between checkpoints, of the loop's time", of["percent"], "%", 0.5,
               note=f"{of['count']} in {of['seconds']:.0f} s, each {of['each_ms']:.1f} ms")
    ]  # fmt: skip


def attempts() -> list[Figure]:
    """Pauses and warm starts of real jobs, by a real worker."""
    times = _python("bench.attempts", "24")
    pause, start = times["pause"], times["start"][1:]
    return [
        Figure("pause", "asked -> slot free, p95", quantile(pause, 0.95), "ms", 50 + times["step_ms"] + 20,
               note="aim: step + memcpy + durable write (20 ms) + 50 ms", peer=f"p50 {median_of(pause):.0f} ms"),
        Figure("start", "claim -> first step after load", median_of(start), "ms", 250, bounds_of_median(start),
               note="a small state: loading is a millisecond"),
    ]  # fmt: skip


def gangs() -> list[Figure]:
    """Pauses of jobs with two devices, and what finding the next job costs while many wait."""
    times = _python("bench.attempts", "12", "2")
    found = [
        Figure("gangs", "2 devices: asked -> all slots taken by the next job, p95", quantile(times["pause"], 0.95),
               "ms", peer=f"p50 {median_of(times['pause']):.0f} ms"),
        Figure("gangs", "2 devices: claim -> first step after load", median_of(times["start"][1:]), "ms"),
    ]  # fmt: skip
    for database in waking.DATABASES:
        with waking.place(database) as environment:
            of = _python("bench.claims", **environment)
        found += [
            Figure("gangs", f"{name}, among 100000 jobs, of among 100, {database}",
                   each["many"] / each["few"], "x", 1.5, note=f"{each['many']:.1f} ms")
            for name, each in of.items()
        ]  # fmt: skip
    return found


def one_core() -> list[Figure]:
    """What a checkpoint and a pause cost where no core is idle: everything on one. No aim stands for it."""
    found: list[Figure] = []
    for megabytes in (10, 100):
        of = _python("bench.snapshot", str(megabytes), one_core=True)
        state = f"{megabytes} MB"
        found += [
            Figure("one core", f"held by a checkpoint of {state}, of memcpy", of["held_ratio"], "x",
                   note=f"{of['held']:.1f} ms"),
            Figure("one core", f"durable, {state}, of raw write + fsync", of["durable_ratio"], "x",
                   note=f"{of['durable']:.0f} ms"),
            Figure("one core", f"longest step beside the writer, {state}", of["longest_step"], "ms",
                   peer=f"no writer {of['longest_step_alone']:.1f} ms"),
        ]  # fmt: skip
    pause = _python("bench.attempts", "12", one_core=True)["pause"]
    found.append(Figure("one core", "pause: asked -> slot free, p95", quantile(pause, 0.95), "ms",
                        peer=f"p50 {median_of(pause):.0f} ms", note="web, worker and trainer share it"))  # fmt: skip
    return found


def resume() -> list[Figure]:
    """A resume costs no fast-forward: the first step comes as soon at any place of an epoch."""
    times = _python("bench.resume")
    first = times["1%"]
    return [
        Figure("resume", f"first step at {place} of an epoch, of that at 1 %", ms / first, "x", 1.1,
               note=f"{ms:.1f} ms")
        for place, ms in times.items()
        if place != "1%"
    ]  # fmt: skip


def reads() -> list[Figure]:
    """Beside stock DRF among a thousand jobs, where it counts and skips cheaply; and ours among a million."""
    few, many = 1_000, int(os.environ.get("BENCH_JOBS", "1000000"))
    with _folder() as folder:
        times = _reads_of(folder, few, many)
    figures = []
    for query in reading.QUERIES:
        people = {role: times[query, role] for role in reading.PEOPLE.values()}
        role = max(people, key=lambda role: people[role]["beside"] / people[role]["stock"])
        ours, stock = people[role]["beside"], people[role]["stock"]
        figures.append(
            Figure("reads", f"list, {query}: of stock DRF", ours / stock, "x", 0.5, peer=f"stock {stock:.1f} ms",
                   note=f"{role}; {ours:.1f} ms of CPU")
        )  # fmt: skip
        role = max(people, key=lambda role: people[role]["many"] / people[role]["few"])
        ours, then = people[role]["many"], people[role]["few"]
        figures.append(
            Figure("reads", f"list, {query}: {many} jobs, of {few}", ours / then, "x", 1.2,
                   note=f"{role}; {ours:.1f} ms of CPU")
        )  # fmt: skip
    return figures


def columns() -> list[Figure]:
    """Lists by configs and metrics, which other tables hold, beside the plain list of the same person and jobs."""
    return [
        Figure("columns", f"list, {query}: of the newest, {jobs} jobs", worst[0], "x", 2, note=worst[1])
        for jobs in (100_000, int(os.environ.get("BENCH_JOBS", "1000000")))
        for query, worst in _columns_among(jobs).items()
    ]


def pages() -> list[Figure]:
    """What a person waits for, without the network and the browser."""
    jobs, steps = 100_000, 1_000_000
    with _folder() as folder:
        environment = _database_in(folder, "pages")
        times = _python("bench.pages", str(jobs), str(steps), **environment)
    many = f"of a job with {steps} steps"
    return [
        Figure("pages", f"the list among {jobs} jobs", times["list"], "ms", 300),
        Figure("pages", f"the page {many}, with its curve", times["page"] + times["curve"], "ms", 1000,
               note=f"page {times['page']:.0f} ms, curve {times['curve']:.0f} ms"),
        Figure("pages", f"a twentieth of the curve {many}", times["part of the curve"], "ms"),
    ]  # fmt: skip


def push() -> list[Figure]:
    times = _python("bench.push")
    return [
        Figure("push", "event -> the last of 500 sockets, p50", times["p50"], "ms", 80,
               note="one web process, no Redis", peer=f"p95 {times['p95']:.0f} ms")
    ]  # fmt: skip


def wakeup() -> list[Figure]:
    """Queued to claimed while idle, on both databases, beside django-q2 as it comes."""
    found = []
    for database in waking.DATABASES:
        times = waking.measure(database)
        ours, stock = times["heimdall"], times["stock"]
        found.append(
            Figure("wake-up", f"queued -> claimed, {database}, p50", ours["p50_ms"], "ms", 10,
                   peer=f"django-q2 {stock['p50_ms']:.0f} ms", note=f"p95 {ours['p95_ms']:.0f} ms, idle "
                   f"{ours['idle_percent']:.1f} % of a core")
        )  # fmt: skip
    return found


def start() -> list[Figure]:
    """The second start of `make run`, and what its processes hold while nothing happens."""
    times = _python("bench.start")
    found = [Figure("start", "`make run`, second time, to an answer", times["seconds"], "s", 5)]
    for name, megabytes in times["memory"].items():
        found.append(
            Figure("memory", f"idle: {name}", megabytes, "MB", note="two slots; shared pages once (PSS)")
        )
    found.append(
        Figure(
            "memory",
            "idle: all of it",
            sum(times["memory"].values()),
            "MB",
            490,
            note=f"two slots; shared pages once; {times['files']:.0f} MB are of files, mostly torch's libraries",
        )
    )
    return found


def client() -> list[Figure]:
    """The command and a program that follows a job, on the machine of the server: what the client itself takes."""
    of, peers = _python("bench.client"), _python("bench.peers")
    (shown, cpu), (listed, list_cpu), (peer, _) = of["help"], of["ls"], of["typer"]
    return [
        Figure("client", "`heimdall --help`", shown, "ms", 250, note=f"{cpu:.0f} ms of CPU",
               peer=f"typer {peer:.0f} ms"),
        Figure("client", "`heimdall ls`, without its request", listed - of["request"], "ms", 300,
               note=f"{list_cpu:.0f} ms of CPU; the request {of['request']:.0f} ms"),
        Figure("client", "a change -> the line that follows the job, p50", of["event"], "ms",
               note="the request that makes the change too"),
        Figure("client", "submit -> the first step, p50", of["first_step"], "ms",
               note="of a small model, seen by the program that submitted it"),
        *(_help_of_peer(one) for one in peers.values()),
    ]  # fmt: skip


def _help_of_peer(one: dict[str, Any]) -> Figure:
    what = f"`{one['command']}` of {one['package']}"
    if "missing" in one:
        return Figure("client", what, None, "ms", note=f"not measured: {one['missing']}")
    return Figure("client", what, one["ms"], "ms", note=f"a peer; {one['cpu']:.0f} ms of CPU")


GROUPS: dict[str, Measure] = {
    "loop": loop,
    "scripts": scripts,
    "snapshot": snapshot,
    "ranks": ranks,
    "hashing": hashing,
    "attempts": attempts,
    "gangs": gangs,
    "one_core": one_core,
    "resume": resume,
    "reads": reads,
    "columns": columns,
    "pages": pages,
    "push": push,
    "wakeup": wakeup,
    "start": start,
    "client": client,
}


def _reads_of(folder: Path, few: int, many: int) -> dict[tuple[str, str], dict[str, float]]:
    """Medians by query and role: of `stock` and ours `beside` it, and of ours alone among `few` and `many` jobs."""
    small, large = (_database_in(folder, str(jobs)) for jobs in (few, many))
    _python("bench.reads", "make", str(few), **small)
    _python("bench.reads", "make", str(many), **large)
    found = {}
    with (
        _talker("bench.reads", "answer", "stock", **small) as both,
        _talker("bench.reads", "answer", **small) as among_few,
        _talker("bench.reads", "answer", **large) as among_many,
    ):
        for ask, person in product((both, among_few, among_many), reading.PEOPLE):
            ask(
                [next(iter(reading.QUERIES)), person]
            )  # the first one of a process is not like those that follow
        for query, (person, role) in product(reading.QUERIES, reading.PEOPLE.items()):
            times: dict[str, list[float]] = defaultdict(list)
            for _ in range(reading.ROUNDS):
                beside = both([query, person])
                times["beside"] += beside["ours"]
                times["stock"] += beside["stock"]
                times["few"] += among_few([query, person])["ours"]
                times["many"] += among_many([query, person])["ours"]
            found[query, role] = {who: median_of(each) for who, each in times.items()}
    return found


def _columns_among(jobs: int) -> dict[str, tuple[float, str]]:
    """By query the worst ratio of the people's medians, in turn with the newest jobs, and whose it is."""
    found: dict[str, tuple[float, str]] = {}
    with _folder() as folder:
        database = _database_in(folder, str(jobs))
        _python("bench.reads", "make", str(jobs), **database)
        with _talker("bench.reads", "answer", **database) as ask:
            plain = next(iter(reading.QUERIES))
            for query, (person, role) in product(reading.COLUMNS, reading.PEOPLE.items()):
                times: dict[str, list[float]] = defaultdict(list)
                for _ in range(reading.ROUNDS):
                    for one in (plain, query):
                        times[one] += ask([one, person])["ours"]
                ours, usual = median_of(times[query]), median_of(times[plain])
                found[query] = max(
                    found.get(query, (0.0, "")), (ours / usual, f"{role}; {ours:.1f} ms of CPU")
                )
    return found


@contextmanager
def _talker(module: str, *arguments: str, **environment: str) -> Iterator[Callable[[Any], Any]]:
    """The module in a process that answers each line of JSON with one."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(question: Any) -> Any:
        print(json.dumps(question), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{module} ended with {process.wait()} when it was asked {question}")
        return json.loads(answer)

    late = Timer(STOPPED, process.kill)
    late.start()
    try:
        yield ask
    finally:
        late.cancel()
        process.stdin.close()
        process.wait()


def _database_in(folder: Path, name: str) -> dict[str, str]:
    """An empty SQLite database, and the environment that leads to it."""
    environment = {
        "HEIMDALL_DATA_DIR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder / f'{name}.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
    }
    _run([sys.executable, "manage.py", "migrate", "-v", "0"], environment)
    return environment


def _peer(name: str, held: Any, memcpy: float) -> str:
    return f"{name} {held / memcpy:.1f} x" if isinstance(held, float) else f"{name}: {held}"


def _python(module: str, *arguments: str, one_core: bool = False, **environment: str) -> Any:
    """The last line that the module prints, as JSON. one_core: all of its processes share a single core."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    printed = _run([*(_ON_ONE_CORE if one_core else ()), *command], environment)
    return json.loads(printed.strip().splitlines()[-1]) if printed.strip() else {}


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=STOPPED,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise RuntimeError(last[0])
    return done.stdout


def _environment(own: dict[str, str]) -> dict[str, str]:
    """Without what this machine's own Heimdall is told."""
    kept = os.environ.items()
    return {name: value for name, value in kept if not name.startswith(("HEIMDALL_", "DATABASE_"))} | own


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="heimdall-bench-") as name:
        yield Path(name)
