"""Whose address a request comes from, where proxies stand in between."""

from __future__ import annotations

import ipaddress

from django.conf import settings


def client_address(peer: str, forwarded_for: str) -> str:
    """The last address on the way here that is no proxy of ours. Before it anybody may write what he likes."""
    address, words = peer, [word.strip()[:64] for word in forwarded_for.split(",")]
    while is_trusted(address) and words and words[-1]:
        address = words.pop()
    return address


def is_trusted(address: str) -> bool:
    """Whether HEIMDALL_TRUSTED_PROXIES names the address."""
    found = parsed(address)
    return found is not None and any(found in network for network in settings.TRUSTED_PROXIES)


def parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None where it is no address. A socket for both families shows ::ffff:10.0.0.7 for 10.0.0.7."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
