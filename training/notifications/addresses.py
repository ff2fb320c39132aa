"""Where a webhook may go: to public addresses, and to those of the house that the administrator named.

A name is looked up when the webhook is saved and again for each message, and the message goes to the very address
that was checked: a name that points elsewhere a moment later leads nowhere.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from training.errors import AddressRefused

URL_LENGTH = 500
LOOK_UP_SECONDS = 5.0
IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORTS = {"http": 80, "https": 443}
# Every range of IANA's two registries of special-purpose addresses, those that are globally reachable too: none of
# them is somebody's web server. Of IPv6 nothing but the global unicast space is public in the first place.
_SPECIAL = [
    ipaddress.ip_network(one)
    for one in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
]  # fmt: skip
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_CARRIES_IPV4 = [ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::ffff:0:0/96")]  # NAT64; mapped
# Below 1024 only the web's own. Above, what speaks no HTTP: what browsers refuse too (https://fetch.spec.whatwg.org,
# "bad port"), databases, caches, queues, and remote control of machines.
_NO_WEB_PORTS = frozenset({
    1433, 1521, 1719, 1720, 1723, 1883, 2049, 2181, 2375, 2376, 2377, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 4369,
    5060, 5061, 5432, 5671, 5672, 5900, 5901, 5985, 5986, 6000, 6379, 6432, 6566, *range(6665, 6670), 6679, 6697,
    7000, 7001, 9042, 9092, 10080, 10250, 11211, 25672, 26379, 27017,
})  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """A URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def read(url: str) -> Endpoint:
    """The URL as an endpoint; AddressRefused says what is wrong with its form."""
    if len(url) > URL_LENGTH:
        raise AddressRefused(f"The URL has {len(url)} characters; at most {URL_LENGTH} fit.")
    if not url.isascii() or any(sign <= " " or sign == "\x7f" for sign in url) or "\\" in url:
        raise AddressRefused("Write the URL in ASCII without spaces; other signs are percent-encoded.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefused(f"This is no URL: {error}.") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise AddressRefused("Give a whole URL that begins with https:// or http://.")
    if "@" in parts.netloc:
        raise AddressRefused("Leave name and password out of the URL; messages are signed instead.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    port = _PORTS[parts.scheme] if port is None else port
    _require_web_port(port)
    return Endpoint(parts.scheme, parts.hostname.rstrip("."), port, path)


def address_of(endpoint: Endpoint) -> str:
    """An address of the endpoint's host that may be called. One that may not refuses them all."""
    found = _look_up(endpoint.host, endpoint.port)
    for address in found:
        if not _may_call(endpoint.host, ipaddress.ip_address(address)):
            leads = "" if endpoint.host == address else f"{endpoint.host} leads to "
            raise AddressRefused(
                f"{leads}{address}{', which' if leads else ''} is no public address. Webhooks go there only if an "
                "administrator names it in HEIMDALL_WEBHOOK_ALLOW."
            )
    return found[0]


def is_public(address: IP) -> bool:
    """Somebody's address in the internet, and no way to one that is not: IPv6 may carry an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _CARRIES_IPV4):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    return not any(address in network for network in _SPECIAL)


def _require_web_port(port: int) -> None:
    named = settings.WEBHOOK_PORTS
    if port in named if named else port in _PORTS.values() or (port >= 1024 and port not in _NO_WEB_PORTS):
        return
    raise AddressRefused(
        f"Webhooks do not go to port {port}: "
        + (
            f"HEIMDALL_WEBHOOK_PORTS names {', '.join(map(str, sorted(named)))}."
            if named
            else "use 80, 443 or a port from 1024 that no other service is known by; an administrator may name "
            "others in HEIMDALL_WEBHOOK_PORTS."
        )
    )


def _may_call(host: str, address: IP) -> bool:
    names, networks = settings.WEBHOOK_ALLOW
    own = getattr(address, "ipv4_mapped", None) or address
    return host.lower() in names or any(own in network for network in networks) or is_public(address)


def _look_up(host: str, port: int) -> list[str]:
    """The host's addresses. The system's resolver knows no deadline, so it is asked in a thread that may be left."""
    answers: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(row[4][0]).partition("%")[0] for row in rows)))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that no name can have
            answers.put(error)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        found = answers.get(timeout=LOOK_UP_SECONDS)
    except queue.Empty:
        raise AddressRefused(f"Nobody said within {LOOK_UP_SECONDS:.0f} s where {host} is.") from None
    if isinstance(found, Exception):
        raise AddressRefused(f"There is no host {host}, or its name cannot be looked up now.") from found
    return found
