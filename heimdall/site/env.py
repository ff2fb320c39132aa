"""Reading settings from the environment: every bad value stops the start and names its variable."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import warnings
import zoneinfo
from collections.abc import Callable
from email.utils import parseaddr
from pathlib import Path
from typing import Any, TypeVar, overload

import environ
from django.core.exceptions import ImproperlyConfigured

from heimdall.files import write_whole
from heimdall.site import prefix
from heimdall.site.variables import BY_NAME

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_env = environ.Env()
_PERIODS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_RATE = re.compile(r"([1-9][0-9]{0,6})/(s|m|h|d)(?:ec|econd|in|inute|our|ay)?")
_SERVER = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?")
_ALLOWED_HOST = re.compile(r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")
_ORIGIN = re.compile(r"https?://((\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_GPU = re.compile(r"[0-9]{1,3}|(?:GPU|MIG)-[A-Za-z0-9/-]+")
_NAME = re.compile(r"[^\s/\x00-\x1f\x7f]{1,100}")
EXAMPLES = "examples"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def text(name: str, default: str = "") -> str:
    assert name in BY_NAME, f"{name} is read and has no line in heimdall/site/variables.py"
    assert BY_NAME[name].default in {None, default}, (
        f"{name} has another default in heimdall/site/variables.py"
    )
    return os.environ.get(name, "").strip() or default


def words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def hosts(name: str, default: str) -> list[str]:
    """Names under which a server may be called; `.example.org` stands for all below it, `*` for every name."""
    return _each(name, default, _ALLOWED_HOST, "the name of a host: leave http:// and the port out")


def origins(name: str) -> list[str]:
    return _each(name, "", _ORIGIN, "an origin: use a form like https://gpu.example.org")


def _each(name: str, default: str, pattern: re.Pattern[str], what: str) -> list[str]:
    found = words(name, default)
    for word in found:
        if not pattern.fullmatch(word):
            raise ImproperlyConfigured(f"{name}: {word!r} is not {what}.")
    return found


def networks(name: str, default: str = "") -> list[Network]:
    """Addresses and networks, such as `10.0.0.7, 192.168.0.0/16, ::1`."""
    found: list[Network] = []
    for word in words(name, default):
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name}: {word!r} is neither an address nor a network: use a form like 10.0.0.7 or 10.0.0.0/8."
            ) from error
    return found


def name(variable: str, default: str) -> str:
    """A name that can stand in an address."""
    value = text(variable, default)
    if not _NAME.fullmatch(value):
        raise ImproperlyConfigured(
            f"{variable}={value!r}: use at most 100 signs, without spaces and slashes."
        )
    return value


def labels(variable: str, pattern: re.Pattern[str], rule: str) -> list[str]:
    """Labels, separated by commas, each once. The rule is a sentence for people."""
    found = list(dict.fromkeys(words(variable)))
    for label in found:
        if not pattern.fullmatch(label):
            raise ImproperlyConfigured(f"{variable}: {label!r} is no label; {rule}")
    return found


def flag(name: str, default: bool) -> bool:
    value = text(name, "1" if default else "0").lower()
    if value not in _TRUE | _FALSE:
        raise ImproperlyConfigured(f"{name}={value!r} is neither yes nor no: use 1 or 0.")
    return value in _TRUE


def demo(name: str) -> bool | str:
    """Whether something is queued at the first start; EXAMPLES: the example programs, too."""
    value = text(name, "1").lower()
    if value not in _TRUE | _FALSE | {EXAMPLES}:
        raise ImproperlyConfigured(f"{name}={value!r}: use 1, 0 or {EXAMPLES}.")
    return EXAMPLES if value == EXAMPLES else value in _TRUE


def integer(name: str, default: int, *, low: int, high: int) -> int:
    return _number(name, default, int, low, high)


def seconds(name: str, default: float, *, low: float, high: float = 86_400.0) -> float:
    return _number(name, default, float, low, high)


@overload
def gigabytes(name: str, default: float) -> float: ...
@overload
def gigabytes(name: str, default: None = None) -> float | None: ...
def gigabytes(name: str, default: float | None = None) -> float | None:
    given = text(name, "" if default is None else str(default))
    return _in_range(name, given, float, 0.001, 1_000_000) if given else None


def rate(name: str, default: str) -> str:
    """How often one may ask, like 600/min; `parse_rate` reads it."""
    value = text(name, default)
    try:
        parse_rate(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={value!r} {error}") from error
    return value


def parse_rate(value: str) -> tuple[int, float]:
    """'600/min' as (600, 60.0)."""
    match = _RATE.fullmatch(value.lower())
    if not match:
        raise ValueError("is not a rate: use a form like 600/min.")
    return int(match[1]), _PERIODS[match[2]]


def url(name: str) -> str:
    """The address of a server, with nothing secret in it; empty where the variable is not set."""
    value = text(name)
    if value and not _SERVER.fullmatch(value):
        raise ImproperlyConfigured(f"{name}={value!r} is not an address like https://s3.example.org:9000.")
    return value.rstrip("/")


def matching(name: str, pattern: str, what: str) -> str:
    """Empty where the variable is not set."""
    value = text(name)
    if value and not re.fullmatch(pattern, value):
        shown = name if "@" in value else f"{name}={value!r}"  # before an @ may stand a password
        raise ImproperlyConfigured(f"{shown} is not {what}.")
    return value


def parse_database(url: str) -> dict[str, Any]:
    """A database URL as an entry of DATABASES. Raises for one that cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return _env.db_url_config(url)


def web_address(name: str, default: str) -> str:
    """A URL to put paths behind, without the slash at its end."""
    value = text(name, default).rstrip("/")
    match = re.fullmatch(r"https?://[^/?#\s@]+((?:/(?!\.+(?:/|$))[A-Za-z0-9._~-]+)*)", value)
    if not match:
        raise ImproperlyConfigured(
            f"{name}={value!r}: give a URL like https://gpu.example.org or https://lab.example.org/heimdall."
        )
    first = match[1].split("/")[1] if match[1] else ""
    if first in prefix.OWN_PAGES:  # behind a proxy that takes the path away nobody could tell
        raise ImproperlyConfigured(
            f"{name}={value!r}: Heimdall has a page {first!r} itself. Give a path like /heimdall."
        )
    return value


def map_tiles(name: str) -> str:
    """The address of a map's tiles, with places for zoom, column and row; empty for none."""
    value = text(name)
    if value and not (
        re.fullmatch(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/[^\s;,'\"]+", value)
        and all(part in value for part in ("{z}", "{x}", "{y}"))
    ):
        raise ImproperlyConfigured(
            f"{name}={value!r}: give an address like https://tiles.example.org/{{z}}/{{x}}/{{y}}.png."
        )
    return value


def http_url(host: str, port: int) -> str:
    """The address of a server that listens there; one of IPv6 stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def mail_server(name: str) -> dict[str, Any]:
    """Django's EMAIL_ settings from a URL like smtp+tls://name:password@mail.example.org:587; empty if not set."""
    value = text(name)
    if not value:
        return {}
    try:
        found = _env.email_url_config(value)
    except Exception as error:
        raise ImproperlyConfigured(
            f"{name} is no mail server that Heimdall can read: use a form like smtp+tls://name:password@host:587."
        ) from error
    if found["EMAIL_BACKEND"].endswith("smtp.EmailBackend") and not found["EMAIL_HOST"]:
        raise ImproperlyConfigured(
            f"{name} names no host: use a form like smtp+tls://name:password@host:587."
        )
    return {setting: known for setting, known in found.items() if known is not None}


def sender(name: str, default: str) -> str:
    """Who sends e-mail: an address, with or without a name in front."""
    value = text(name, default)
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", parseaddr(value)[1]):
        raise ImproperlyConfigured(f"{name}={value!r} is no address: use a form like heimdall@example.org.")
    return value


def hosts_and_networks(name: str) -> tuple[frozenset[str], tuple[Network, ...]]:
    """Names of hosts, and networks or single addresses, separated by commas."""
    names, networks = set(), []
    for word in words(name):
        if _HOST.fullmatch(word.lower()) and not re.fullmatch(r"[0-9.]+", word):
            names.add(word.lower())
            continue
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name}: {word!r} is neither the name of a host nor a network like 10.0.0.0/8."
            ) from error
    return frozenset(names), tuple(networks)


def ports(name: str) -> frozenset[int]:
    """Numbers of ports, separated by commas."""
    found = frozenset(
        int(word) for word in words(name) if word.isascii() and word.isdigit() and len(word) < 6
    )
    if len(found) != len(set(words(name))) or not all(1 <= port <= 65_535 for port in found):
        raise ImproperlyConfigured(
            f"{name}={text(name)!r}: give numbers from 1 to 65535, separated by commas."
        )
    return found


def interpreters(name: str) -> dict[str, str]:
    """Pythons by the names that people call them, such as `torch26=/opt/torch26/bin/python`, separated by commas."""
    found: dict[str, str] = {}
    for word in words(name):
        called, sign, path = (part.strip() for part in word.partition("="))
        if not (sign and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}", called) and path.startswith("/")):
            raise ImproperlyConfigured(
                f"{name}: {word!r} is not of the form name=/path/of/python, separated by commas."
            )
        if called == "uv" or called in found:
            raise ImproperlyConfigured(f"{name}: the name {called!r} is taken; choose another one.")
        found[called] = path
    return found


def time_zone(name: str, default: str) -> str:
    value = text(name, default)
    try:
        zoneinfo.ZoneInfo(value)
    except (
        KeyError,
        ValueError,
        OSError,
    ) as error:  # not found; not a name; a folder of zones, such as Europe
        raise ImproperlyConfigured(
            f"{name}={value!r} is no time zone: use a name like Europe/Rome."
        ) from error
    return value


def folder(name: str, default: Path) -> Path:
    """A folder, which is made where it is not there, for its owner alone."""
    path = Path(text(name, str(default))).expanduser().absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # SQLite and JSON could not name it
        raise ImproperlyConfigured(f"{name}={str(path)!r} is not text in UTF-8.") from error
    try:
        path.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{name}={path} cannot be made: {error.strerror}.") from error
    return path


def gpus() -> list[int | str]:
    """The GPUs that this process may use, by number or UUID as CUDA_VISIBLE_DEVICES has them, without asking CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(range(len(list(Path("/proc/driver/nvidia/gpus").glob("*")))))
    found: list[int | str] = []
    for word in (word.strip() for word in visible.split(",")):
        if not _GPU.fullmatch(word):
            break  # CUDA ignores what follows too
        found.append(int(word) if word.isdigit() else word)
    return found


def secret_in_file(path: Path) -> str:
    """The secret kept in `path`; made on first use, readable by its owner only."""
    if not path.exists():
        # Web server and worker may start at the same time, on a disk that is full: the first one's stays.
        write_whole(path, secrets.token_urlsafe(50), keep_existing=True)
    return path.read_text().strip()


def _number(name: str, default: T, cast: Callable[[str], T], low: Any, high: Any) -> T:
    return _in_range(name, text(name, str(default)), cast, low, high)


def _in_range(name: str, value: str, cast: Callable[[str], T], low: Any, high: Any) -> T:
    try:
        number: Any = cast(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={value!r} is not a number.") from error
    if not low <= number <= high:
        raise ImproperlyConfigured(f"{name}={value} is outside of {low} to {high}.")
    return number
