"""Values that only a program is to see: kept encrypted with the secret key, and opened for its trainer alone."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings

from heimdall.errors import HeimdallError

if TYPE_CHECKING:  # it is imported where a job has secrets: six megabytes in each process
    from cryptography.fernet import Fernet

_PURPOSE = b"heimdall: secrets of programs"  # another purpose has another key


class SecretsLost(HeimdallError):
    """The secret key is not the one that a job's secrets were encrypted with."""

    code = "secrets_lost"


def sealed(values: dict[str, str]) -> str:
    """The values as a text that says nothing without the secret key; empty where there are none."""
    return _key(settings.SECRET_KEY).encrypt(json.dumps(values).encode()).decode() if values else ""


def opened(text: str) -> dict[str, str]:
    """What was sealed."""
    if not text:
        return {}
    from cryptography.fernet import InvalidToken

    try:
        found: dict[str, str] = json.loads(_key(settings.SECRET_KEY).decrypt(text.encode()))
    except InvalidToken as error:
        raise SecretsLost(
            "The secrets of this job were encrypted with another secret key (HEIMDALL_SECRET_KEY), and cannot be "
            "read. Submit it again with their values."
        ) from error
    return found


@lru_cache(maxsize=4)
def _key(secret_key: str) -> Fernet:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
