"""ed25519: the key of an installation, and public halves as people pass them on."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from heimdall.errors import HeimdallError

if TYPE_CHECKING:  # it is imported where it is needed: six megabytes in each process
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RAW_BYTES = 32


class BadKey(HeimdallError):
    """What was given as a key is none of ours."""

    code = "bad_key"


@dataclass(frozen=True)
class SigningKey:
    """The private half. It signs, and shows its public half."""

    _key: Ed25519PrivateKey

    @classmethod
    def read(cls, pem: bytes) -> SigningKey:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise BadKey("The signing key is not an unencrypted private key in PEM form.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadKey("The signing key is not an ed25519 key.")
        return cls(key)

    @property
    def pem(self) -> bytes:
        from cryptography.hazmat.primitives import serialization

        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self._key.private_bytes(*form)

    @property
    def public(self) -> str:
        """The public half: 32 bytes in base64."""
        from cryptography.hazmat.primitives import serialization

        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    @property
    def key_id(self) -> str:
        return key_id_of(self.public)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def new_key() -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return SigningKey(Ed25519PrivateKey.generate())


def key_id_of(public: str) -> str:
    """What names a public key: SHA-256 over its 32 bytes."""
    return sha256(_raw(public)).hexdigest()


def is_signed_by(public: str, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(_raw(public)).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def public_keys_in(text: str) -> list[str]:
    """The public keys of a text: base64, PEM, or the page that a server shows under /.well-known/."""
    text = text.strip()
    if text.startswith("-----BEGIN"):
        return [_of_pem(text)]
    if text.startswith("{"):
        return _of_page(text)
    _raw(text)
    return [text]


def _of_pem(text: str) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = serialization.load_pem_public_key(text.encode())
    except ValueError as error:
        raise BadKey(
            "This is not a public key in PEM form. Give the public half, never the private one."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey("This is not an ed25519 key, and certificates are signed with none other.")
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def _of_page(text: str) -> list[str]:
    try:
        page: Any = json.loads(text)
        found = [str(one["public"]) for one in page["keys"] if isinstance(one, Mapping)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadKey('This is not the page of keys of a Heimdall server: it has no list "keys".') from error
    for public in found:
        _raw(public)
    return found


def _raw(public: str) -> bytes:
    try:
        raw = base64.b64decode(public.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BadKey("A public key is 32 bytes in base64, a PEM file, or a server's page of keys.") from error
    if len(raw) != RAW_BYTES or base64.b64encode(raw).decode() != public:
        raise BadKey(f"A public key has {RAW_BYTES} bytes, written in base64.")
    return raw
