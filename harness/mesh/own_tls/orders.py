"""A process in a pod that takes orders: each order is a JSON object on a line of a socket, and so is its answer."""

from __future__ import annotations

import json
import socket
from typing import Any, Self

from harness.errors import HarnessError
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command
from harness.waiting import DEFAULT_TIMEOUT


class OrderedProcess:
    """The command gets the socket as its descriptor 3, and ends when the socket does."""

    def __init__(self, pod: Pod, command: Command, name: str) -> None:
        self.pod = pod
        ours, theirs = socket.socketpair()
        try:
            self.process = pod.node.spawn(command, pod=pod, name=name, fds=[theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(DEFAULT_TIMEOUT)
        self._orders = ours
        self._answers = ours.makefile("rb")

    def give(self, order: dict[str, Any]) -> None:
        """Give an order; `answer` waits for it."""
        self._orders.sendall(json.dumps(order).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest order without one. Raises HarnessError if it could not be carried out."""
        line = self._answers.readline()
        if not line:
            raise HarnessError(f"{self.process.name} ended:\n{self.process.read_log()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise HarnessError(f"{self.process.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process, which ends with its orders."""
        self._answers.close()
        self._orders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
