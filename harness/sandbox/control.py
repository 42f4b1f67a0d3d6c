"""The owner's side of the protocol with a node's PID 1: one request at a time, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from harness.errors import InternalError
from harness.sandbox import protocol
from harness.sandbox.launch import StartedNode


class Control:
    """Uses the node's control socket, and closes it."""

    def __init__(self, world: StartedNode) -> None:
        self._world = world
        self._lock = threading.Lock()
        self.closed = False

    def ask(self, request: protocol.Message, fds: Sequence[int] = ()) -> protocol.Frame:
        """Send a request with descriptors; returns the answer and its descriptors.

        Raises OSError if PID 1 could not do it, and `InternalError` if PID 1 is gone.
        """
        with self._lock:
            if self.closed:
                raise InternalError(f"the node is closed: it cannot {request['op']}")
            try:
                protocol.send(self._world.control, request, fds)
                reply, received = protocol.receive(self._world.control)
            except protocol.PeerGone:
                raise self.gone() from None
        if "error" in reply:
            raise OSError(reply["errno"], reply["error"])
        return reply, received

    def gone(self) -> InternalError:
        """The exception for a PID 1 that has ended, with its last words."""
        return InternalError(f"the node's PID 1 is gone:\n{self._world.read_log()}")

    def close(self) -> None:
        """PID 1 ends when the socket is closed."""
        self.closed = True
        self._world.control.close()
