"""The TCP connections that the calling thread's network namespace knows, from the kernel (sock_diag(7)).

All numbers are in the machine's byte order, but for ports and addresses, which are in network byte order.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

from tapper.errors import TapperError, explain
from tapper.namespaces.netlink import HEADER, messages

MOST_SOCKETS: Final = 50_000
"""More are not read: that many take a tenth of a second."""

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_DUMP: Final = 0x301  # with NLM_F_REQUEST
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_LARGEST: Final = 1 << 16

_REQUEST = struct.Struct("=BBxxI48x")  # struct inet_diag_req_v2: family, protocol, extensions, states, a socket's id
_MESSAGE_SIZE: Final = 72  # struct inet_diag_msg
_PORTS_AT, _SOURCE_AT, _DESTINATION_AT = 4, 8, 24  # in it: struct inet_diag_sockid begins at 4
# Of enum tcp_states: all but TIME_WAIT, CLOSE and LISTEN, since there the connection is over or has not begun.
_STATES: Final = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
_MAPPED: Final = bytes(10) + b"\xff\xff"


def tcp_connections() -> frozenset[bytes]:
    """The open TCP connections, each by the key of the packets that its socket sends (`tapper.streams.packet.Segment`).
    Raises TapperError, also where there are more than MOST_SOCKETS."""
    found: set[bytes] = set()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            for family in (socket.AF_INET, socket.AF_INET6):
                request = _REQUEST.pack(family, socket.IPPROTO_TCP, _STATES)
                size = HEADER.size + len(request)
                netlink.send(HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP, 1, 0) + request)
                done = False
                while not done:
                    done = _read(netlink.recv(_LARGEST), found)
                    if len(found) > MOST_SOCKETS:
                        raise TapperError(f"a network namespace has more than {MOST_SOCKETS} TCP connections")
    except OSError as error:
        raise TapperError(f"cannot list the sockets of a network namespace: {explain(error)}") from error
    return frozenset(found)


def _read(datagram: bytes, found: set[bytes]) -> bool:
    """Add one datagram's connections; whether it was the last. Raises OSError with the kernel's number."""
    for kind, body in messages(datagram):
        if kind == _NLMSG_DONE:
            return True
        if kind == _NLMSG_ERROR:
            number = -int.from_bytes(body[:4], sys.byteorder, signed=True)
            raise OSError(number, "the kernel refused to list sockets")
        if len(body) >= _MESSAGE_SIZE:
            found.add(_key(body))
    return False


def _key(message: bytes) -> bytes:
    ports = message[_PORTS_AT:_SOURCE_AT]
    source, destination = message[_SOURCE_AT:_DESTINATION_AT], message[_DESTINATION_AT : _DESTINATION_AT + 16]
    if message[0] == socket.AF_INET:
        return source[:4] + destination[:4] + ports
    if source.startswith(_MAPPED) and destination.startswith(_MAPPED):  # an IPv6 socket that speaks IPv4
        return source[12:] + destination[12:] + ports
    return source + destination + ports
