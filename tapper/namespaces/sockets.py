"""The TCP connections of the calling thread's network namespace, asked of the kernel (sock_diag(7)).

Numbers are in the machine's byte order; ports and addresses are in network byte order.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from tapper.errors import TapperError, explain
from tapper.namespaces import netlink

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST = struct.Struct("=BBxxI48x")  # struct inet_diag_req_v2: family, protocol, extensions, states, a socket's id
_MESSAGE_SIZE: Final = 72  # struct inet_diag_msg
_PORTS_AT, _SOURCE_AT, _DESTINATION_AT = 4, 8, 24  # in it: struct inet_diag_sockid begins at 4
# Of enum tcp_states all but TIME_WAIT, CLOSE and LISTEN: in these a connection is over or has not begun.
_STATES: Final = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
_MAPPED: Final = bytes(10) + b"\xff\xff"


def tcp_connections() -> frozenset[bytes]:
    """The open TCP connections, each by the key of the packets that its socket sends (`tapper.streams.packet.Segment`).
    Raises TapperError, also for more than `netlink.MOST_MESSAGES` connections of a family."""
    keys: set[bytes] = set()
    try:
        with netlink.connect(_NETLINK_SOCK_DIAG) as sock:
            for family in (socket.AF_INET, socket.AF_INET6):
                request = _REQUEST.pack(family, socket.IPPROTO_TCP, _STATES)
                keys.update(map(_key, netlink.dump(sock, _SOCK_DIAG_BY_FAMILY, request)))
    except OSError as error:
        raise TapperError(f"cannot list the TCP connections of a network namespace: {explain(error)}") from error
    return frozenset(keys)


def _key(message: bytes) -> bytes:
    if len(message) < _MESSAGE_SIZE:
        raise OSError(errno.EBADMSG, "a message of the kernel is cut off")
    ports = message[_PORTS_AT:_SOURCE_AT]
    source, destination = message[_SOURCE_AT:_DESTINATION_AT], message[_DESTINATION_AT : _DESTINATION_AT + 16]
    if message[0] == socket.AF_INET:
        return source[:4] + destination[:4] + ports
    if source.startswith(_MAPPED) and destination.startswith(_MAPPED):  # an IPv6 socket that speaks IPv4
        return source[12:] + destination[12:] + ports
    return source + destination + ports
