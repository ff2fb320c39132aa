"""The signed envelope around a statement: DSSE, as in-toto asks for it.

An envelope has one possible form for its content: canonical JSON and a newline, and a payload that is canonical JSON
itself. So a changed byte anywhere, also one that JSON or base64 would overlook, makes it another document.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from heimdall.certificate.chain import canonical
from heimdall.certificate.keys import SigningKey, is_signed_by
from heimdall.errors import HeimdallError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MOST_BYTES = 256 * 2**20


class BadCertificate(HeimdallError):
    """The document is none, or was changed."""

    code = "bad_certificate"


@dataclass(frozen=True)
class Opened:
    """An envelope whose form is right. Nobody has looked at its signature yet."""

    statement: dict[str, Any]
    payload: bytes
    key_id: str
    signature: bytes

    def is_signed_by(self, public: str) -> bool:
        return is_signed_by(public, self.signature, message_of(self.payload))


def signed(statement: dict[str, Any], key: SigningKey) -> bytes:
    """The document as it is passed on."""
    payload = canonical(statement).encode("ascii")
    signature = {"keyid": key.key_id, "sig": _base64(key.sign(message_of(payload)))}
    envelope = {"payload": _base64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return _written(envelope)


def message_of(payload: bytes) -> bytes:
    """What is signed: DSSE's own encoding of type and payload, so that neither passes for the other."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def open_envelope(raw: bytes) -> Opened:
    """Raises BadCertificate for what is no envelope, or not in the one form that it may have."""
    if len(raw) > MOST_BYTES:
        raise BadCertificate(
            f"It has {len(raw)} bytes, and {MOST_BYTES} are the most that a certificate has."
        )
    try:
        return _opened(raw)
    except BadCertificate:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise BadCertificate("It is not a certificate of Heimdall, or it was changed.") from error


def _opened(raw: bytes) -> Opened:
    envelope = json.loads(raw.decode("ascii"))
    if envelope["payloadType"] != PAYLOAD_TYPE or len(envelope["signatures"]) != 1:
        raise BadCertificate("It is an envelope of another kind.")
    (signature,) = envelope["signatures"]
    payload, key_id, value = _bytes(envelope["payload"]), signature["keyid"], _bytes(signature["sig"])
    again = {
        "payload": _base64(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": _base64(value)}],
    }
    statement = json.loads(payload.decode("ascii"))
    if _written(again) != raw or canonical(statement).encode("ascii") != payload:
        raise BadCertificate("It was changed: it is not in the one form that such a document has.")
    if not isinstance(statement, dict) or not isinstance(key_id, str):
        raise BadCertificate("It is not a certificate of Heimdall.")
    return Opened(statement, payload, key_id, value)


def _written(envelope: dict[str, Any]) -> bytes:
    return (canonical(envelope) + "\n").encode("ascii")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except binascii.Error as error:
        raise BadCertificate("It was changed: its payload or its signature is no base64.") from error
