"""`python -m heimdall.check.again certificate.json [start.safetensors]`: train a stretch again, on this machine.

It is what `heimdall verify --replay` runs. The certificate says what was trained, with which settings, and which
state came out; the checkpoint to begin with (none: step 0) and the code of a program are given beside it. So nobody
has to rely on the one who signed.

Exit codes: 0 the same bits, 1 other bits, 2 it could not be trained.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from heimdall import codec
from heimdall.attached.program import Program
from heimdall.certificate.chain import Link, line_to
from heimdall.certificate.document import chain_in, problems_of
from heimdall.certificate.envelope import open_envelope
from heimdall.check.__main__ import SCRIPT_DRIVER, frameworks_of
from heimdall.check.rehearsal import Rehearsal
from heimdall.check.replaying import EQUAL, FAILED, Point, ReplayResult, Stretch, replay
from heimdall.code_archive import pack
from heimdall.errors import HeimdallError, InvalidInput
from heimdall.recipes import registry
from heimdall.recipes.registry import checked
from heimdall.trainer.protocol import TrainerSpec
from heimdall.trainer.warm import WarmLauncher


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        result, stretch = _replayed(options)
    except (HeimdallError, codec.InvalidCheckpoint, OSError) as error:
        print(f"heimdall verify: {error}", file=sys.stderr)
        return 2
    print(_as_json(result, stretch) if options.json else _in_words(result, stretch))
    return {EQUAL: 0, FAILED: 2}.get(result.outcome, 1)


def _replayed(options: argparse.Namespace) -> tuple[ReplayResult, Stretch]:
    statement = open_envelope(options.certificate.read_bytes()).statement
    if problems := problems_of(statement):
        raise InvalidInput({"certificate": problems[:1]})
    stretch = stretch_of(statement, options.start, num_points=options.points)
    with tempfile.TemporaryDirectory(prefix="heimdall-replay-") as folder:
        spec, preload = _spec(statement["predicate"]["job"], options, stretch, Path(folder))
        with closing(WarmLauncher(preload=preload)) as launcher:
            rehearsal = Rehearsal(replace(spec, **stretch.spec_fields), Path(folder), launcher=launcher)
            return replay(rehearsal, stretch), stretch


def stretch_of(statement: dict[str, Any], start: Path | None, *, num_points: int) -> Stretch:
    """From the state of this file, or from step 0, past the links that follow on the certificate's line."""
    predicate = statement["predicate"]
    line = line_to(chain_in(statement), predicate["head"])
    first = _first(line, start)
    following = line[line.index(first) + 1 :] if first else line
    if not following:
        raise InvalidInput({"start": ["Nothing was trained after this state: give an earlier checkpoint."]})
    if first is None and (following[0].came_from or not following[0].attempt):
        raise InvalidInput(
            {"start": ["This training did not begin at step 0: give a checkpoint to begin with."]}
        )
    points = [Point(one.number, one.step, one.epoch, one.digest) for one in following[:num_points]]
    return Stretch(
        start=start,
        step=first.step if first else 0,
        epoch=first.epoch if first else 0,
        digest=first.digest if first else "",
        points=points,
        environment=predicate["environments"].get(following[0].environment, {}),
    )


def _first(line: list[Link], start: Path | None) -> Link | None:
    if start is None:
        return None
    digest = codec.verify(start).digest
    found = [link for link in line if link.digest == digest]
    if not found:
        raise InvalidInput({"start": [f"{start} holds no state on the line of this certificate."]})
    return found[-1]


def _spec(
    job: dict[str, Any], options: argparse.Namespace, stretch: Stretch, folder: Path
) -> tuple[TrainerSpec, list[str]]:
    where = {
        "pinned": dict(stretch.environment),
        "threads": stretch.environment.get("threads"),
        "scratch": str(folder),
    }
    if not job["program"]:
        info = registry.get(job["recipe"])
        return TrainerSpec(info.package, job["config"], "", **where), [info.package]
    told = {
        name: job["program"][name]
        for name in ("command", "kind", "hook", "directory")
        if job["program"].get(name)
    }
    program = checked(Program, told)
    described = {"program": program.model_dump(mode="json"), "code": _code_digest(options.code, folder)}
    spec = TrainerSpec(
        "",
        job["config"],
        "",
        driver=SCRIPT_DRIVER,
        folder=str(options.code.resolve()),
        program=described,
        **where,
    )
    return spec, [SCRIPT_DRIVER, *frameworks_of(program, options.code)]


def _code_digest(folder: Path, scratch: Path) -> str:
    """As a server tells its trainers of the code."""
    packed = pack(folder, scratch / "code.tar.gz")
    return hashlib.sha256(f"heimdall: the code {packed.digest}".encode()).hexdigest()


def _as_json(result: ReplayResult, stretch: Stretch) -> str:
    points = [
        {"link": point.link, "step": point.step, "recorded": point.digest, "found": found}
        for point, found in zip(stretch.points, [*result.found, *[""] * len(stretch.points)], strict=False)
    ]
    return json.dumps(asdict(result) | {"from_step": stretch.step, "points": points})


def _in_words(result: ReplayResult, stretch: Stretch) -> str:
    last = stretch.points[-1]
    where = f"steps {stretch.step} to {last.step}"
    if result.outcome == EQUAL:
        return f"EQUAL: {where}, trained again here in {result.seconds:.1f} s, gave the digest {last.digest}."
    return f"{result.outcome.upper()}: {where}. {result.reason}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heimdall verify --replay", description="Train a stretch again, here."
    )
    parser.add_argument("certificate", type=Path)
    parser.add_argument("start", type=Path, nargs="?", help="the checkpoint to begin with (none: step 0)")
    parser.add_argument("--code", type=Path, default=Path("."), help="the folder of a program's code")
    parser.add_argument("--points", type=int, default=1, help="past how many states of the chain")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
