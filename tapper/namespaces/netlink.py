"""Netlink messages, requests and dumps (netlink(7)). Numbers are in the machine's byte order."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from tapper.errors import TapperError, explain

NLMSG_ERROR, NLMSG_DONE = 2, 3  # linux/netlink.h
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x01, 0x10, 0x300
LARGEST_DATAGRAM: Final = 1 << 16
"""In bytes; the kernel sends at most 32 KiB at a time (netlink_dump, net/netlink/af_netlink.c)."""
MOST_MESSAGES: Final = 50_000
"""The messages of one dump. A process in a pod can make more; the kernel needs a tenth of a second for so many."""

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length with the header, type, flags, sequence number, port
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length with the header, type
_NLA_TYPE_MASK = 0x3FFF
_TRIES = 5


class Message(NamedTuple):
    """One netlink message."""

    kind: int
    flags: int
    body: bytes


def connect(protocol: int) -> socket.socket:
    """A netlink socket in the calling thread's network namespace. Raises OSError."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


@contextmanager
def asking(purpose: str, protocol: int) -> Iterator[socket.socket]:
    """A netlink socket for the time of the block, whose OSErrors become a TapperError that names the purpose: "read the
    addresses"."""
    try:
        with connect(protocol) as sock:
            yield sock
    except OSError as error:
        raise TapperError(f"cannot {purpose} of a network namespace: {explain(error)}") from error


def require(whole: bool) -> None:
    """Raises OSError with EBADMSG unless a message of the kernel is whole."""
    if not whole:
        raise OSError(errno.EBADMSG, "a message of the kernel is cut off")


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of a datagram. Raises OSError with EBADMSG where one is cut off."""
    for at, length in _chunks(datagram, _HEADER.size, "=I"):
        _, kind, flags, _, _ = _HEADER.unpack_from(datagram, at)
        yield Message(kind, flags, datagram[at + _HEADER.size : at + length])


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes at the end of a message, by type. Raises OSError with EBADMSG where one is cut off."""
    values = {}
    for at, length in _chunks(data, _ATTRIBUTE.size, "=H"):
        _, kind = _ATTRIBUTE.unpack_from(data, at)
        values[kind & _NLA_TYPE_MASK] = data[at + _ATTRIBUTE.size : at + length]
    return values


def _chunks(data: bytes, header_size: int, length_format: str) -> Iterator[tuple[int, int]]:
    """Offset and length of each chunk of `data`: it begins with its length, and is aligned to 4 bytes."""
    at = 0
    while at < len(data):
        left = len(data) - at
        length = struct.unpack_from(length_format, data, at)[0] if left >= header_size else 0
        require(header_size <= length <= left)
        yield at, length
        at += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    raw = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value
    return raw + bytes(-len(raw) % 4)


def ask(sock: socket.socket, kind: int, body: bytes) -> bytes:
    """Send a request, and return the body of the only answer. Raises OSError with the kernel's number."""
    _send(sock, kind, NLM_F_REQUEST, body)
    for message in messages(sock.recv(LARGEST_DATAGRAM)):
        check(message)
        return message.body
    raise OSError(errno.EBADMSG, "the kernel's answer is empty")


def dump(sock: socket.socket, kind: int, body: bytes) -> list[bytes]:
    """Ask for everything of a kind, and return the bodies of the answers.

    Raises OSError: the kernel's number, EAGAIN where the list changes during each of several tries, and EOVERFLOW for
    more than MOST_MESSAGES.
    """
    for _ in range(_TRIES):
        _send(sock, kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        bodies: list[bytes] = []
        done = interrupted = False
        while not done:
            for message in messages(sock.recv(LARGEST_DATAGRAM)):
                interrupted |= bool(message.flags & NLM_F_DUMP_INTR)
                check(message)
                if message.kind == NLMSG_DONE:
                    done = True
                else:
                    bodies.append(message.body)
            if len(bodies) > MOST_MESSAGES:
                raise OSError(errno.EOVERFLOW, f"there are more than {MOST_MESSAGES:,} of them")
        if not interrupted:
            return bodies
    raise OSError(errno.EAGAIN, "they keep changing")


def check(message: Message) -> None:
    """Raises OSError with the kernel's number for a message that reports an error."""
    if message.kind in (NLMSG_ERROR, NLMSG_DONE):
        number = -int.from_bytes(message.body[:4], sys.byteorder, signed=True)
        if number:
            raise OSError(number, "the kernel refused to answer")


def _send(sock: socket.socket, kind: int, flags: int, body: bytes) -> None:
    sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
