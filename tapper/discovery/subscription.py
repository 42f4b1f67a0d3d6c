"""A netlink socket on which the kernel tells of what happens (netlink(7))."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LARGEST = 1 << 16


class Subscription:
    """An open one; what is told on it is its subclass's affair."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """For polling: readable when there are events."""
        return self._socket.fileno()

    def drain(self, parse: Callable[[bytes], set[T]]) -> set[T] | None:
        """What the datagrams since the last call tell, in all; None where not all is known: the kernel had no room for
        some, or `parse` raised ValueError. Raises OSError."""
        found: set[T] = set()
        while True:
            try:
                found |= parse(self._socket.recv(_LARGEST, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found
            except ValueError:
                return None
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return None
                raise

    def close(self) -> None:
        self._socket.close()
