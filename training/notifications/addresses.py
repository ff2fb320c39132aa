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
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}


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
    return Endpoint(parts.scheme, parts.hostname.rstrip("."), port or _PORTS[parts.scheme], path)


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
    """Reachable from everywhere, and no way to an address that is not: IPv6 may carry an IPv4 address."""
    if address in _NAT64:  # a translator leads to this IPv4 address and to no other
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return all(
        one.is_global
        and not (one.is_multicast or one.is_reserved or one.is_unspecified)
        and not getattr(one, "is_site_local", False)
        for one in (address, *_carried(address))
    )


def _may_call(host: str, address: IP) -> bool:
    names, networks = settings.WEBHOOK_ALLOW
    own = getattr(address, "ipv4_mapped", None) or address
    return host.lower() in names or any(own in network for network in networks) or is_public(address)


def _carried(address: IP) -> list[IP]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    return [one for one in found if one is not None]


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
