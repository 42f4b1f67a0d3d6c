"""A header of the PROXY protocol ahead of a connection's own bytes (HAProxy, proxy-protocol.txt). Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address

from harness.conformance.oracle.model import Address, TcpConnection

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP([46]) (\S+) \S+ (\d{1,5}) \d{1,5})\r\n")
_LONGEST_LINE = 107
_WIDTHS = {0x11: 4, 0x21: 16}


def without_header(connection: TcpConnection) -> TcpConnection:
    """The same connection without such a header, and with the client that it names; itself where there is none."""
    data = connection.requests.data
    source: Address | None = None
    line = _LINE.match(data, 0, _LONGEST_LINE)
    if line is not None:
        size = line.end()
        source = None if line[1] is None else _address(line[2].decode("latin-1"), int(line[3]))
    elif data.startswith(_SIGNATURE) and len(data) >= 16 and data[12] in (0x20, 0x21):
        size, width = 16 + int.from_bytes(data[14:16], "big"), _WIDTHS.get(data[13], 0)
        if data[12] == 0x21 and width and size >= 20 + 2 * width:
            port = int.from_bytes(data[16 + 2 * width : 18 + 2 * width], "big")
            source = str(ip_address(data[16 : 16 + width])), port
    else:
        return connection
    rest = connection.requests.behind(size)
    return replace(connection, requests=rest, has_proxy_header=True, proxied_for=source)


def _address(text: str, port: int) -> Address | None:
    try:
        return str(ip_address(text)), port
    except ValueError:
        return None
