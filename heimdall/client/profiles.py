"""The servers that a person uses, each under a name, and the token for each. Kept in one file with mode 0600.

`HEIMDALL_SERVER` and `HEIMDALL_TOKEN` go before it: for machines, and for notebooks that are handed a token.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heimdall.client.errors import LoginRequired, ProfileUnknown
from heimdall.errors import InvalidInput

DEFAULT = "default"
SERVICE = "heimdall"  # under which keyring keeps tokens
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}")


@dataclass(frozen=True)
class Profile:
    """One server, and how it is reached."""

    url: str
    token: str = field(default="", repr=False)
    name: str = DEFAULT
    certificates: str = ""
    """A file with the certificates of an authority of one's own, as PEM."""
    in_keyring: bool = False
    """Whether the token lies in the keyring of this machine and not in the file."""


@dataclass
class Profiles:
    """What the file holds."""

    current: str = DEFAULT
    servers: dict[str, Profile] = field(default_factory=dict)


def folder() -> Path:
    configured = os.environ.get("HEIMDALL_CONFIG_DIR") or os.environ.get("XDG_CONFIG_HOME")
    if os.environ.get("HEIMDALL_CONFIG_DIR"):
        return Path(str(configured))
    return Path(configured or Path.home() / ".config") / "heimdall"


def file() -> Path:
    return folder() / "servers.json"


def read() -> Profiles:
    try:
        found = json.loads(file().read_text())
        servers = {name: Profile(**facts | {"name": name}) for name, facts in found["servers"].items()}
        return Profiles(found["current"], servers)
    except FileNotFoundError:
        return Profiles()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProfileUnknown(f"{file()} cannot be read ({error}). Remove it and log in again.") from error


def write(profiles: Profiles) -> None:
    """Written beside and renamed, so that it is whole whatever happens, and never readable for others."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = {name: _kept(one) for name, one in profiles.servers.items()}
    handle, beside = tempfile.mkstemp(dir=folder(), prefix=".servers-")  # mkstemp: mode 0600
    try:
        with os.fdopen(handle, "w") as target:
            json.dump({"current": profiles.current, "servers": kept}, target, indent=2)
        os.replace(beside, file())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _kept(profile: Profile) -> dict[str, Any]:
    facts = asdict(profile)
    del facts["name"]
    return facts | ({"token": ""} if profile.in_keyring else {})


def chosen(name: str | None = None) -> Profile:
    """The profile that is used: by its name, else from the environment, else the current one, its token filled in."""
    url = os.environ.get("HEIMDALL_SERVER")
    name = name or os.environ.get("HEIMDALL_PROFILE")
    if url and not name:
        token = os.environ.get("HEIMDALL_TOKEN", "").strip()
        return Profile(clean_url(url), token, "environment", os.environ.get("HEIMDALL_CERTIFICATES", ""))
    profiles = read()
    found = profiles.servers.get(name or profiles.current)
    if found is None and not profiles.servers:
        raise LoginRequired(
            "No server is known here yet: `heimdall login https://gpu.example.org` makes one known."
        )
    if found is None:
        known = ", ".join(sorted(profiles.servers))
        raise ProfileUnknown(f"There is no profile {name or profiles.current}; there are: {known}.")
    return replace(found, token=_from_keyring(found)) if found.in_keyring else found


def keep(profile: Profile) -> Profile:
    """Make it known and current. The token goes to the keyring where there is one, else into the file."""
    if not _NAME.fullmatch(profile.name):
        raise InvalidInput({"profile": ["Use letters, digits, dots, - and _, at most 50, for its name."]})
    profiles = read()
    kept = replace(profile, in_keyring=_to_keyring(profile))
    write(Profiles(profile.name, profiles.servers | {profile.name: kept}))
    return kept


def use(name: str) -> Profile:
    profiles = read()
    if name not in profiles.servers:
        known = ", ".join(sorted(profiles.servers)) or "none"
        raise ProfileUnknown(f"There is no profile {name}; there are: {known}.")
    write(Profiles(name, profiles.servers))
    return profiles.servers[name]


def forget(name: str) -> Profile:
    profiles = read()
    if name not in profiles.servers:
        raise ProfileUnknown(f"There is no profile {name}.")
    gone = profiles.servers.pop(name)
    if gone.in_keyring and (keyring := _keyring()) is not None:
        with contextlib.suppress(
            Exception
        ):  # it is gone already, or the keyring is locked: nothing uses it any more
            keyring.delete_password(SERVICE, name)
    rest = next(iter(profiles.servers), DEFAULT)
    write(Profiles(rest if profiles.current == name else profiles.current, profiles.servers))
    return gone


def clean_url(text: str) -> str:
    """The address of a server without what comes after its path; https where nothing is said."""
    text = text.strip()
    local = re.match(r"(localhost|127\.|\[::1\])", text)
    try:
        parts = urlsplit(text if "://" in text else f"{'http' if local else 'https'}://{text}")
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_one = False
    if "@" in text:
        raise InvalidInput(
            {"server": ["Leave name and password out of the address: Heimdall takes a token."]}
        )
    if not is_one:
        raise InvalidInput(
            {"server": [f"{text[:100]!r} is no address of a server; write https://gpu.example.org."]}
        )
    path = parts.path.rstrip("/").removesuffix("/v1/training").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _keyring() -> Any:
    """The package keyring with a backend that keeps something; None where there is none."""
    if os.environ.get("HEIMDALL_KEYRING", "1") == "0":
        return None
    try:
        import keyring
        from keyring.backends import fail, null
    except ImportError:
        return None
    is_none = isinstance(keyring.get_keyring(), fail.Keyring | null.Keyring)
    return None if is_none else keyring


def _to_keyring(profile: Profile) -> bool:
    keyring = _keyring()
    if keyring is None or not profile.token:
        return False
    try:
        keyring.set_password(SERVICE, profile.name, profile.token)
    except Exception:  # whatever a backend raises (locked, no session bus): the file is there for it
        return False
    return True


def _from_keyring(profile: Profile) -> str:
    keyring = _keyring()
    token = keyring.get_password(SERVICE, profile.name) if keyring is not None else None
    if not token:
        raise LoginRequired(
            f"The token for {profile.url} is not in this machine's keyring any more: `heimdall login {profile.url}`."
        )
    return str(token)
