"""Certificates of trainings that never were, and ways to tamper with one."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from heimdall.certificate.chain import Link, digest_of_environment, seal_of
from heimdall.certificate.document import statement_of
from heimdall.certificate.envelope import open_envelope, signed
from heimdall.certificate.keys import SigningKey, new_key

ENVIRONMENT = {"device": "cpu", "torch": "2.13.0", "threads": 1, "recipe_digest": "c" * 64, "world_size": 1}
_CHANGED = ("step", "epoch", "attempt", "digest", "came_from", "code", "environment", "before", "seal")


def digest(*words: Any) -> str:
    return sha256(" ".join(map(str, words)).encode()).hexdigest()


def chain(num_links: int, *, attempts: int = 3) -> list[Link]:
    """Ten steps a link; each attempt goes on from where the one before it was."""
    links: list[Link] = []
    for number in range(1, num_links + 1):
        last = links[-1] if links else None
        links.append(
            Link(
                number=number,
                generation=0,
                attempt=1 + (number - 1) * attempts // num_links,
                step=number * 10,
                epoch=number // 4,
                samples=number * 80,
                digest=digest("state", number),
                header_sha256=digest("header", number) if number % 2 else "",
                came_from=last.digest if last else "",
                came_from_step=last.step if last else 0,
                code="c" * 64,
                data="",
                environment=digest_of_environment(ENVIRONMENT),
                before=last.seal if last else "",
            ).sealed()
        )
    return links


def replay_of(first: Link | None, *points: Link) -> dict[str, Any]:
    return {
        "from_step": first.step if first else 0,
        "from_digest": first.digest if first else "",
        "points": [
            {"link": one.number, "step": one.step, "recorded": one.digest, "found": one.digest}
            for one in points
        ],
        "outcome": "equal",
        "reason": "",
        "first_step": None,
        "first_value": "",
        "first_tensor": "",
        "steps_compared": 10,
        "environment": ENVIRONMENT,
    }


def statement(links: list[Link], key: SigningKey, **changes: Any) -> dict[str, Any]:
    attempts = [
        {"number": number, "started_step": 0, "ended_step": 0, "steps_executed": 10, "outcome": "land"}
        for number in range(1, links[-1].attempt + 1)
    ]
    facts: dict[str, Any] = {
        "job": {"number": 1, "name": "first", "recipe": "tiny", "program": None, "config": {"seed": 0}},
        "issuer": {"key": key.public, "software": "heimdall"},
        "issued_at": "2026-01-01T00:00:00Z",
        "attempts": attempts,
        "environments": [ENVIRONMENT],
        "chain": links,
        "head": links[-1].number,
        "replays": [replay_of(None, *links[:2]), replay_of(links[2], *links[3:5])] if len(links) > 5 else [],
        "check": None,
        "files": [
            {"name": f"step-{one.step}.safetensors", "digest": one.digest, "header_sha256": one.header_sha256}
            for one in links
            if one.header_sha256
        ],
        "weights": {"weight": "e" * 64},
    }
    return statement_of(**(facts | changes))


class Tampering:
    """One whole certificate, and ways to change it: at random, or at the source and signed again with its own key."""

    def __init__(self, num_links: int = 12) -> None:
        self.key = new_key()
        self.statement = statement(chain(num_links), self.key)
        self.document = signed(self.statement, self.key)

    def any_of_them(self, draw: random.Random) -> tuple[str, bytes]:
        """The name of a way, and the document that came of it."""
        ways: list[Callable[[random.Random], bytes]] = [
            self.flip_a_bit, self.take_bytes_out, self.sign_with_another_key, self.change_a_link, self.swap_links,
            self.leave_a_link_out, self.leave_an_attempt_out, self.claim_a_replay, self.hide_a_difference,
            self.sum_up_more, self.name_another_file,
        ]  # fmt: skip
        way = draw.choice(ways)
        return way.__name__, way(draw)

    def flip_a_bit(self, draw: random.Random) -> bytes:
        found = bytearray(self.document)
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
        return bytes(found)

    def take_bytes_out(self, draw: random.Random) -> bytes:
        begin = draw.randrange(len(self.document))
        return self.document[:begin] + self.document[begin + draw.randint(1, 9) :]

    def sign_with_another_key(self, draw: random.Random) -> bytes:
        changed = copy.deepcopy(self.statement)
        changed["predicate"]["job"]["config"]["seed"] = draw.randrange(1, 1_000)
        return signed(changed, new_key())

    # What somebody can do who writes to the database, and has the document signed by the server.

    def change_a_link(self, draw: random.Random) -> bytes:
        def change(links: list[dict[str, Any]]) -> None:
            link = draw.choice(links)
            name = draw.choice(
                ["step", "epoch", "attempt", "digest", "came_from", "code", "environment", "before", "seal"]
            )
            link[name] = (
                digest(draw.random()) if isinstance(link[name], str) else link[name] + draw.randint(1, 9)
            )

        return self._with_links(change)

    def swap_links(self, draw: random.Random) -> bytes:
        def swap(links: list[dict[str, Any]]) -> None:
            one, other = draw.sample(range(len(links)), 2)
            links[one], links[other] = links[other], links[one]

        return self._with_links(swap)

    def leave_a_link_out(self, draw: random.Random) -> bytes:
        def leave_out(links: list[dict[str, Any]]) -> None:
            gone = links.pop(draw.randrange(len(links) - 1))
            if draw.random() < 0.5:  # and number the rest anew
                for number, link in enumerate(links, start=1):
                    link["number"] = number
                    link["seal"] = seal_of(link)
            assert gone

        return self._with_links(leave_out)

    def leave_an_attempt_out(self, draw: random.Random) -> bytes:
        changed = copy.deepcopy(self.statement)
        attempts = changed["predicate"]["attempts"]
        attempts.pop(draw.randrange(len(attempts)))
        return signed(changed, self.key)

    def claim_a_replay(self, draw: random.Random) -> bytes:
        changed = copy.deepcopy(self.statement)
        replay = copy.deepcopy(changed["predicate"]["replays"][0])
        replay["points"][-1]["recorded"] = replay["points"][-1]["found"] = digest(draw.random())
        changed["predicate"]["replays"].append(replay)
        return signed(changed, self.key)

    def hide_a_difference(self, draw: random.Random) -> bytes:
        changed = copy.deepcopy(self.statement)
        replay = draw.choice(changed["predicate"]["replays"])
        replay["points"][0]["found"] = digest(draw.random())  # and its outcome stays "equal"
        return signed(changed, self.key)

    def sum_up_more(self, draw: random.Random) -> bytes:
        changed = copy.deepcopy(self.statement)
        name = draw.choice(["stretches_replayed", "steps_replayed", "steps", "links", "attempts"])
        changed["predicate"]["summary"][name] += draw.randint(1, 9)
        return signed(changed, self.key)

    def name_another_file(self, draw: random.Random) -> bytes:
        changed = copy.deepcopy(self.statement)
        draw.choice(changed["subject"])["digest"]["heimdallState"] = digest(draw.random())
        return signed(changed, self.key)

    def _with_links(self, change: Callable[[list[dict[str, Any]]], None]) -> bytes:
        changed = copy.deepcopy(self.statement)
        change(changed["predicate"]["chain"])
        return signed(changed, self.key)


def without_times(document: bytes) -> str:
    """What is the same whenever the certificate is asked for."""
    found = copy.deepcopy(open_envelope(document).statement)
    found["predicate"].pop("issued_at")
    return json.dumps(found, sort_keys=True)
