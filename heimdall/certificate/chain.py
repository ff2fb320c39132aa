"""The chain of a job's states: each link names the state that it came from, and the link that was written before it.

Two things are tied together here. `came_from` leads from state to state: this one was trained out of that one, by
this attempt. `before` leads from row to row in the order in which they were written, so that none can be changed,
moved or taken out without its successors noticing. Both are checked without any key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any

BEGINNING = ""
"""What the first state of all came from: no state, step 0."""


@dataclass(frozen=True)
class Link:
    """One state of a job, durable or only hashed. All texts are SHA-256 in hexadecimal, or empty."""

    number: int
    """1, 2, 3 ... without a gap, in the order in which they were written down."""
    generation: int
    """How often the job had been taken back on purpose."""
    attempt: int
    step: int
    epoch: int
    samples: int | None
    """Finished training samples of the whole job; None where whoever trains does not count them."""
    digest: str
    """Of the state, as the checkpoint file has it."""
    header_sha256: str
    """Names the whole file; empty where the state was hashed and not stored."""
    came_from: str
    """The digest of the state that it was trained out of."""
    came_from_step: int
    code: str
    data: str
    environment: str
    """Of the canonical JSON of what the attempt trained on."""
    before: str
    """`seal` of the link with the number before."""
    seal: str = ""
    """Over all of the above."""

    def sealed(self) -> Link:
        facts = asdict(self) | {"seal": ""}
        return Link(**(facts | {"seal": seal_of(facts)}))

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Link:
        """Raises ValueError, naming the field, for what is no link."""
        if not isinstance(facts, Mapping) or set(facts) != set(_TYPES):
            raise ValueError(f"a link has exactly the fields {', '.join(_TYPES)}")
        for name, types in _TYPES.items():
            if type(facts[name]) not in types:
                raise ValueError(f"{name} of a link is {facts[name]!r}")
        return cls(**facts)


_TYPES: dict[str, tuple[type, ...]] = {
    one.name: {"int": (int,), "str": (str,), "int | None": (int, type(None))}[str(one.type)]
    for one in fields(Link)
}


@dataclass(frozen=True)
class Finding:
    """Something about a chain that a reader should know. `kind`: gap, broken, rollback, taken_back, origin."""

    kind: str
    number: int
    sentence: str


def canonical(value: Any) -> str:
    """The one text of a value."""
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=True, separators=(",", ":"))


def seal_of(facts: Mapping[str, Any]) -> str:
    return sha256(canonical({name: facts[name] for name in _TYPES if name != "seal"}).encode()).hexdigest()


def digest_of_environment(environment: Mapping[str, Any]) -> str:
    return sha256(canonical(dict(environment)).encode()).hexdigest() if environment else ""


def line_to(links: Sequence[Link], head: int) -> list[Link]:
    """From the first state to the link with this number, each trained out of the one before it. It begins later
    where what came before is not known."""
    places = _Places(links)
    by_number = {link.number: link for link in links}
    line, seen, link = [], set(), by_number.get(head)
    while link is not None and link.number not in seen:
        seen.add(link.number)
        line.append(link)
        link = places.source_of(link)
    return line[::-1]


def findings_of(links: Sequence[Link], line: Sequence[Link]) -> list[Finding]:
    """What a look at the chain tells, in the order of its links."""
    found = [*_broken(links), *_gaps(links), *_left_behind(links, line)]
    return sorted(found, key=lambda one: (one.number, one.kind))


class _Places:
    """Finds the link that another one came from: with that state, at that step."""

    def __init__(self, links: Iterable[Link]) -> None:
        self._places: dict[tuple[str, int], list[Link]] = {}
        for link in links:
            self._places.setdefault((link.digest, link.step), []).append(link)

    def source_of(self, link: Link) -> Link | None:
        """The newest that was written down before it. Of its own attempt also one that was written down later: a file
        that is on its way to the store gets its link when it is there."""
        known = self._places.get((link.came_from, link.came_from_step), ())
        earlier = [one for one in known if one.number < link.number]
        if earlier:
            return max(earlier, key=lambda one: one.number)
        own = [one for one in known if one.attempt == link.attempt and one.number > link.number]
        return min(own, key=lambda one: one.number, default=None)


def _broken(links: Sequence[Link]) -> list[Finding]:
    found, before = [], ""
    for number, link in enumerate(links, start=1):
        why = ""
        if link.number != number:
            why = f"It has the number {link.number}, and {number} is next: a link is missing, or was moved."
        elif link.seal != seal_of(asdict(link)):
            why = "What it says does not fit its own seal: it was changed."
        elif link.before != before:
            why = "It does not follow the link before it: one of them was changed, or another stood there."
        elif link.step < link.came_from_step:
            why = f"It is at step {link.step} and claims to come from step {link.came_from_step}."
        if why:
            found.append(Finding("broken", number, why))
        before = link.seal
    return found


def _gaps(links: Sequence[Link]) -> list[Finding]:
    places, found = _Places(links), []
    for link in links:
        if _begins(link) or places.source_of(link) is not None:
            continue
        found.append(
            Finding(
                "gap",
                link.number,
                f"The state at step {link.step} came from one at step {link.came_from_step} that is in no link.",
            )
        )
    return found


def _begins(link: Link) -> bool:
    return link.came_from == BEGINNING and link.came_from_step == 0


def _left_behind(links: Sequence[Link], line: Sequence[Link]) -> list[Finding]:
    """What is not on the way to the head: it was trained and given up."""
    on_line = {link.number for link in line}
    found, newest = [], max((link.generation for link in links), default=0)
    for link in links:
        if link.attempt == 0:
            found.append(
                Finding(
                    "origin", link.number, f"It began from a state that was brought, at step {link.step}."
                )
            )
        if link.number in on_line:
            continue
        if link.generation < newest:
            sentence = (
                f"Step {link.step} of generation {link.generation} was given up: the job was taken back."
            )
            found.append(Finding("taken_back", link.number, sentence))
        else:
            sentence = (
                f"Step {link.step} of attempt {link.attempt} was rolled back: the job went on from before it."
            )
            found.append(Finding("rollback", link.number, sentence))
    return found
