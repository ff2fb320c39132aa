"""The key that certificates are signed with: made once, kept in a file of its own, rotated on request."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db.models.functions import Now

from heimdall.certificate.keys import SigningKey, new_key
from heimdall.files import write_whole
from training.models import CertificateKey


def signing_key() -> SigningKey:
    """The key of this installation. Its public half is known to all servers from the first time that it is used."""
    path = _path()
    if not path.exists():
        # Several processes may start at the same time: the first one's stays. New files are their owner's alone.
        write_whole(path, new_key().pem.decode(), keep_existing=True)
    key = SigningKey.read(path.read_bytes())
    CertificateKey.objects.get_or_create(key_id=key.key_id, defaults={"public": key.public})
    return key


def rotate_signing_key() -> SigningKey:
    """A new key from now on. The public half of the old one stays known: what it signed stays signed."""
    signing_key()
    write_whole(_path(), new_key().pem.decode())
    key = signing_key()
    others = CertificateKey.objects.exclude(key_id=key.key_id)
    others.filter(retired_at=None).update(retired_at=Now())
    return key


def _path() -> Path:
    return Path(settings.SIGNING_KEY_FILE)
