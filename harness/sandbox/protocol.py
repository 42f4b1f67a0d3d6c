"""The protocol between the owner of a node and the node's PID 1: one JSON object at a time over a Unix stream socket.

Frame: 4 bytes length (big endian), 1 byte number of file descriptors, then the JSON text. The descriptors ride on the
first byte (SCM_RIGHTS). Strings that stand for bytes (argv, environ, paths) are Latin-1, so that every byte survives.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence

_HEADER = struct.Struct("!IB")
MAX_FDS = 16

TYPE_CHECKING = False  # typing's own would cost PID 1 its import
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]
else:
    Message = dict
Frame = tuple[Message, list[int]]
"""A message and the descriptors that came with it."""


class PeerGone(Exception):
    """The other side is gone."""


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message with `fds`. Raises `PeerGone` when the peer is gone."""
    body = json.dumps(message).encode()
    head = _HEADER.pack(len(body), len(fds))
    try:
        sent = socket.send_fds(sock, [head], fds) if fds else sock.send(head)
        sock.sendall(head[sent:] + body)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise PeerGone from error


def receive(sock: socket.socket) -> Frame:
    """Receive one message and its descriptors (close-on-exec). Raises `PeerGone` at end of stream."""
    try:
        head, fds = _with_descriptors(sock)
        if not head:
            raise PeerGone
        head += _exactly(sock, _HEADER.size - len(head))
        length, count = _HEADER.unpack(head)
        body = _exactly(sock, length)
    except ConnectionResetError as error:
        raise PeerGone from error
    if len(fds) != count:
        for fd in fds:
            os.close(fd)
        raise OSError(f"expected {count} file descriptors, got {len(fds)}: is the limit on open files reached?")
    message = json.loads(body)
    assert isinstance(message, dict)
    return message, fds


def _with_descriptors(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Like socket.recv_fds, which forgets its flags (Python 3.11), so that programs would inherit every descriptor."""
    size = struct.calcsize("i")
    head, ancillary, _, _ = sock.recvmsg(_HEADER.size, socket.CMSG_LEN(MAX_FDS * size), socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds += [number for (number,) in struct.iter_unpack("i", data[: len(data) - len(data) % size])]
    return head, fds


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise PeerGone
        data += chunk
    return bytes(data)


def text(data: bytes) -> str:
    """Bytes as text for JSON."""
    return data.decode("latin-1")


def raw(value: str) -> bytes:
    """The inverse of `text`."""
    return value.encode("latin-1")
