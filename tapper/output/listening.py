"""The address and port to listen on, as an option has them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from tapper.errors import UsageError


@dataclass(frozen=True, slots=True)
class Listening:
    """An address, None for all of the machine's, and a port."""

    address: str | None
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in (self.address or "") else self.address
        return f"{address or '*'}:{self.port}"


def parse_listening(text: str, option: str) -> Listening:
    """Read `ADDRESS:PORT`, `[IPv6]:PORT`, `*:PORT` for all addresses, or `:PORT` for the loopback address. Raises
    UsageError that names text and option."""
    address, colon, port = text.rpartition(":")
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        if not colon or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError
        if address in ("", "*"):
            return Listening(None if address else "127.0.0.1", int(port))
        parsed = ipaddress.ip_address(bare)
        if (parsed.version == 6) != (bare != address):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{text!r} is no place to listen: give :PORT for 127.0.0.1, *:PORT for all addresses, ADDRESS:PORT or "
            f"[IPv6]:PORT ({option})"
        ) from None
    return Listening(str(parsed), int(port))
