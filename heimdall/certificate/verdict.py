"""All that can be said of one document without a server: what passed, and what did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heimdall.certificate.chain import Finding
from heimdall.certificate.document import chain_in, problems_of
from heimdall.certificate.envelope import BadCertificate, Opened, open_envelope
from heimdall.certificate.keys import BadKey, key_id_of
from heimdall.certificate.weights import named_in


@dataclass(frozen=True)
class VerdictLine:
    """One question that was asked of the document."""

    about: str
    """form, signature, contents, complete, file."""
    is_good: bool
    sentence: str


@dataclass
class Verdict:
    answers: list[VerdictLine] = field(default_factory=list)
    statement: dict[str, Any] | None = None

    @property
    def is_good(self) -> bool:
        return all(one.is_good for one in self.answers)

    def add(self, about: str, is_good: bool, sentence: str) -> None:
        self.answers.append(VerdictLine(about, is_good, sentence))


def verify_certificate(raw: bytes, *, keys: Sequence[str] = (), files: Sequence[Path] = ()) -> Verdict:
    """`keys`: public keys to be trusted. Without one, the key that the document names is taken, and said so."""
    verdict = Verdict()
    try:
        opened = open_envelope(raw)
    except BadCertificate as error:
        verdict.add("form", False, str(error))
        return verdict
    verdict.add("form", True, "The document is whole, and in the one form that it may have.")
    verdict.statement = opened.statement
    _look_at_signature(verdict, opened, keys)
    problems = problems_of(opened.statement)
    for sentence in problems:
        verdict.add("contents", False, sentence)
    if not problems:
        _look_at_contents(verdict, opened.statement, files)
    return verdict


def _look_at_signature(verdict: Verdict, opened: Opened, keys: Sequence[str]) -> None:
    named = _named_key(opened)
    trusted = list(keys) if keys else [named]
    try:
        key = next((one for one in trusted if one and key_id_of(one) == opened.key_id), None)
        is_good = key is not None and opened.is_signed_by(key)
    except BadKey:
        key, is_good = None, False
    if key is None:
        sentence = f"It is signed with the key {opened.key_id[:16]}, which is none of those to be trusted."
    elif not is_good:
        sentence = "The signature is not that of this document: one of the two was changed."
    elif keys:
        sentence = f"Signed with the trusted key {opened.key_id[:16]}."
    else:
        sentence = (
            f"Signed with the key {opened.key_id[:16]}, which the document itself names. Whose it is, only the "
            "server can say: compare it with /.well-known/heimdall-keys.json there, or give --key."
        )
    verdict.add("signature", is_good, sentence)


def _named_key(opened: Opened) -> str:
    try:
        return str(opened.statement["predicate"]["issuer"]["key"])
    except (KeyError, TypeError):
        return ""


def _look_at_contents(verdict: Verdict, statement: dict[str, Any], files: Sequence[Path]) -> None:
    predicate = statement["predicate"]
    summary, chain = predicate["summary"], chain_in(statement)
    verdict.add(
        "contents",
        True,
        f"{summary['links']} links, {summary['attempts']} attempts, {summary['interruptions']} interruptions: "
        "what it sums up is what it shows.",
    )
    broken = [one for one in (Finding(**facts) for facts in predicate["findings"]) if one.kind == "broken"]
    for one in broken:
        verdict.add("chain", False, f"Link {one.number}: {one.sentence}")
    if not broken:
        whole = "whole" if summary["is_complete"] else "not whole: its beginning, or an attempt, is missing"
        verdict.add(
            "chain", summary["is_complete"], f"The chain of {len(predicate['line'])} states is {whole}."
        )
    differs = summary["state"] == "differs"
    verdict.add(
        "replays",
        not differs,
        f"{summary['state']}: {summary['stretches_replayed']} of {summary['stretches']} stretches, "
        f"{summary['steps_replayed']} of {summary['steps']} steps, were trained again and gave the same bits."
        + (" One gave others." if differs else ""),
    )
    for path in files:
        verdict.add("file", *_look_at_file(path, chain, predicate["weights"]))


def _look_at_file(path: Path, chain: list[Any], weights: dict[str, str]) -> tuple[bool, str]:
    try:
        return named_in(path, chain, weights)
    except OSError as error:
        return False, f"{path} cannot be read: {error.strerror or error}"
