"""The statement of a certificate: an in-toto statement with a predicate of ours, and whether it holds together.

docs/certificate.md is its description. What can be worked out of the rest (line, findings, summary) stands there for
readers, and is worked out again by whoever checks: a statement that sums up more than it shows is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from heimdall.certificate.chain import Link, digest_of_environment, findings_of, line_to

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:heimdall:training-certificate:v1"
VERSION = 1
EQUAL, DIFFERS = "equal", "differs"
REPLAYED, CHECKED, NOT_SHOWN = "replayed", "checked", "not shown"
STATE_DIGEST, FILE_DIGEST = "heimdallState", "heimdallHeader"

PROVES = (
    "Whoever holds the key named here has signed these words, and nobody has changed them since.",
    "The states of the chain came out of each other in the order that is shown, as they were written down when they "
    "were made, with every attempt and every rollback.",
    "Each stretch that counts as replayed was trained again in a new process, from the state at its beginning to the "
    "one at its end, and gave the same bits there and the same values at each step that was compared.",
)
PROVES_NOT = (
    "That the operator of the installation is honest: whoever holds the key can sign anything. Train a stretch again "
    "yourself (heimdall verify --replay) to rely on nobody.",
    "That data, code and config are what they should be: they are named by their digests, and nobody judges them.",
    "Anything of stretches that were not replayed but the order in which they were written down.",
)


def statement_of(
    *,
    job: Mapping[str, Any],
    issuer: Mapping[str, Any],
    issued_at: str,
    attempts: Sequence[Mapping[str, Any]],
    environments: Sequence[Mapping[str, Any]],
    chain: Sequence[Link],
    head: int,
    replays: Sequence[Mapping[str, Any]],
    check: Mapping[str, Any] | None,
    files: Sequence[Mapping[str, Any]],
    weights: Mapping[str, str],
) -> dict[str, Any]:
    """`files`: name, header_sha256 and digest of what is in the store. `weights`: of the head, tensor -> SHA-256."""
    predicate = {
        "version": VERSION,
        "issued_at": issued_at,
        "issuer": dict(issuer),
        "job": dict(job),
        "environments": {digest_of_environment(one): dict(one) for one in environments if one},
        "attempts": [dict(one) for one in attempts],
        "chain": [asdict(link) for link in chain],
        "head": head,
        "replays": [dict(one) for one in replays],
        "check": dict(check) if check else None,
        "weights": dict(weights),
        "proves": list(PROVES),
        "proves_not": list(PROVES_NOT),
    }
    line = line_to(chain, head)
    predicate |= {
        "line": [link.number for link in line],
        "findings": [asdict(one) for one in findings_of(chain, line)],
        "summary": summary_of(predicate, chain, line),
    }
    subjects = [
        {"name": one["name"], "digest": {STATE_DIGEST: one["digest"], FILE_DIGEST: one["header_sha256"]}}
        for one in files
    ]
    return {
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "subject": sorted(subjects, key=lambda one: str(one["name"])),
        "predicate": predicate,
    }


def summary_of(predicate: Mapping[str, Any], chain: Sequence[Link], line: Sequence[Link]) -> dict[str, Any]:
    """What is known of the job, counted."""
    outcomes = outcomes_of(predicate["replays"], chain)
    stretches = list(stretches_of(line))
    shown = [one for one in stretches if outcomes.get(one[1].number) == EQUAL]
    has_difference = any(outcomes.get(end.number) == DIFFERS for _, end in stretches)
    steps = line[-1].step - _first_step(line) if line else 0
    replayed = sum(end.step - begin for begin, end in shown)
    return {
        "state": _state(has_difference, bool(shown), predicate["check"]),
        "links": len(chain),
        "stretches": len(stretches),
        "stretches_replayed": len(shown),
        "steps": steps,
        "steps_replayed": replayed,
        "attempts": len(predicate["attempts"]),
        "interruptions": sum(one["outcome"] != "complete" for one in predicate["attempts"]),
        "is_complete": _is_complete(predicate["attempts"], chain, line),
    }


def stretches_of(line: Sequence[Link]) -> Iterator[tuple[int, Link]]:
    """(step at which it begins, link at which it ends) of all stretches on the line."""
    for before, link in zip([None, *line], line, strict=False):
        if link.attempt and (before is not None or not link.came_from):
            yield link.came_from_step, link


def outcomes_of(replays: Sequence[Mapping[str, Any]], chain: Sequence[Link]) -> dict[int, str]:
    """Number of a link -> what the newest replay that came there has found. After a difference all differs."""
    digests = {link.number: link.digest for link in chain}
    found: dict[int, str] = {}
    for replay in replays:
        is_equal = True
        for point in replay["points"]:
            is_equal = is_equal and point["found"] == digests.get(point["link"])
            is_equal = is_equal and not (replay["first_step"] and replay["first_step"] <= point["step"])
            found[point["link"]] = EQUAL if is_equal else DIFFERS
    return found


def problems_of(statement: Mapping[str, Any]) -> list[str]:
    """Why it does not hold together; nothing where it does. Raises nothing, whatever the statement is."""
    try:
        return list(_problems(statement))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        return [f"It lacks what a certificate has: {type(error).__name__}: {error}"]


def chain_in(statement: Mapping[str, Any]) -> list[Link]:
    return [Link.read(one) for one in statement["predicate"]["chain"]]


def _problems(statement: Mapping[str, Any]) -> Iterator[str]:
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        yield f"It is a statement of another kind: {statement['predicateType']}."
        return
    predicate = statement["predicate"]
    if predicate["version"] != VERSION:
        yield f"It is of version {predicate['version']}, and version {VERSION} is the one known here."
        return
    chain = chain_in(statement)
    line = line_to(chain, predicate["head"])
    if chain and not line:
        yield f"Its head, link {predicate['head']}, is in no link."
    if predicate["line"] != [link.number for link in line]:
        yield "Its line leaves out links, or leads elsewhere than the links do."
    if predicate["findings"] != [asdict(one) for one in findings_of(chain, line)]:
        yield "Its findings are not those that its links give."
    yield from _problems_of_attempts(predicate, chain)
    yield from _problems_of_replays(predicate, chain)
    if predicate["summary"] != summary_of(predicate, chain, line):
        yield "Its summary is not what its parts add up to."
    yield from _problems_of_subjects(statement["subject"], chain)


def _problems_of_attempts(predicate: Mapping[str, Any], chain: Sequence[Link]) -> Iterator[str]:
    numbers = [one["number"] for one in predicate["attempts"]]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"An attempt is left out: there are {', '.join(map(str, numbers))}."
    for digest, environment in predicate["environments"].items():
        if digest_of_environment(environment) != digest:
            yield f"The environment {digest[:12]} was changed."
    for link in chain:
        if link.attempt > len(numbers):
            yield f"Link {link.number} is of attempt {link.attempt}, which is left out."
        if link.environment and link.environment not in predicate["environments"]:
            yield f"The environment of link {link.number} is left out."


def _problems_of_replays(predicate: Mapping[str, Any], chain: Sequence[Link]) -> Iterator[str]:
    links = {link.number: link for link in chain}
    starts = {(link.step, link.digest) for link in chain} | {(0, "")}
    for number, replay in enumerate(predicate["replays"], start=1):
        if (replay["from_step"], replay["from_digest"]) not in starts:
            yield f"Replay {number} begins at a state that is in no link."
        for point in replay["points"]:
            link = links.get(point["link"])
            if link is None or (link.step, link.digest) != (point["step"], point["recorded"]):
                yield f"Replay {number} compares with a state that is in no link."
        is_equal = all(point["found"] == point["recorded"] for point in replay["points"])
        is_equal = is_equal and bool(replay["points"]) and not replay["first_step"]
        if replay["outcome"] != (EQUAL if is_equal else DIFFERS):
            yield f"Replay {number} claims to be {replay['outcome']}, and its digests say otherwise."


def _problems_of_subjects(subjects: Sequence[Mapping[str, Any]], chain: Sequence[Link]) -> Iterator[str]:
    digests = {link.digest for link in chain}
    for subject in subjects:
        if subject["digest"][STATE_DIGEST] not in digests:
            yield f"{subject['name']} holds a state that is in no link."


def _state(has_difference: bool, has_replay: bool, check: Mapping[str, Any] | None) -> str:
    if has_difference:
        return DIFFERS
    if has_replay:
        return REPLAYED
    return CHECKED if check and check["verdict"] == "exact" else NOT_SHOWN


def _first_step(line: Sequence[Link]) -> int:
    first = line[0]
    return first.came_from_step if first.attempt else first.step


def _is_complete(attempts: Sequence[Mapping[str, Any]], chain: Sequence[Link], line: Sequence[Link]) -> bool:
    """Whether nothing is missing between the head and the beginning, and no link was touched."""
    if not line or any(one.kind == "broken" for one in findings_of(chain, line)):
        return False
    first = line[0]
    has_beginning = first.attempt == 0 or (not first.came_from and first.came_from_step == 0)
    return has_beginning and [one["number"] for one in attempts] == list(range(1, len(attempts) + 1))
