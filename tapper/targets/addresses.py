"""Addresses as text, and as packets carry them.

One address is one value whatever its spelling: `FD00:0::1` is `fd00::1`, and the IPv4-mapped `::ffff:10.0.0.1`
(RFC 4291 section 2.5.5.2) is `10.0.0.1`. A search in text would find 10.0.0.1 in 10.0.0.10.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from tapper.errors import UsageError

Address: TypeAlias = IPv4Address | IPv6Address


def parse_address(text: str) -> Address:
    """Read one address in any standard spelling. Raises ValueError for anything else.

    A zone (`fe80::1%eth0`) is refused: it names an interface of one machine, and packets do not carry it.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{text!r} has a zone")
        return address.ipv4_mapped or address
    return address


def parse_targets(values: Iterable[str]) -> frozenset[Address]:
    """Read the values of a repeatable, comma separated option. Raises UsageError that names the bad value.

    Blanks around a comma and a comma too many are ignored, because scripts often put such lists together.
    """
    targets = set()
    for value in values:
        for item in value.split(","):
            text = item.strip()
            if not text:
                continue
            try:
                targets.add(parse_address(text))
            except ValueError:
                raise UsageError(f"{text!r} is not an IPv4 or IPv6 address (--targets)") from None
    return frozenset(targets)


def packed(targets: Iterable[Address]) -> frozenset[bytes]:
    """The addresses in network byte order, 4 or 16 bytes each: the form in which packets carry them."""
    return frozenset(address.packed for address in targets)


def spell(address: bytes) -> str:
    """The canonical text (RFC 5952) of 4 or 16 bytes in network byte order."""
    return str(ip_address(address))
