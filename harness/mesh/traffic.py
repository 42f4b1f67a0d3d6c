"""Requests with unique nonces, so that "seen exactly once" and "never seen" can be asserted."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.mesh.app import NONCE_HEADER
from harness.sandbox.pod import Pod
from harness.waiting import DEFAULT_TIMEOUT


def new_nonce() -> str:
    """A marker that occurs nowhere else: 128 random bits in hexadecimal."""
    return f"nonce-{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request that was answered, as its client knows it."""

    nonce: str
    method: str
    target: str
    status: int
    client: str
    """The client pod's name."""


class PodConnection(http.client.HTTPConnection):
    """An HTTP/1.1 connection whose client is in the pod's network namespace."""

    def __init__(self, pod: Pod, host: str, port: int, timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(host, port, timeout=timeout)
        self._pod = pod
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = self._pod.connect(self.host, self.port, self._seconds)


def send(
    client: Pod,
    host: str,
    port: int,
    count: int = 1,
    *,
    connections: int = 1,
    prefix: str = "/orders",
    timeout: float = DEFAULT_TIMEOUT,
) -> list[AnsweredRequest]:
    """Send `count` GET requests from a pod, one after the other, over `connections` keep-alive connections in turn.

    The nonce is in the target and in a header; the application's answer must carry it too. Raises `HarnessError` when
    an answer is not the application's, OSError when there is none.
    """
    lines = [PodConnection(client, host, port, timeout) for _ in range(connections)]
    try:
        return [_exchange(client, lines[number % connections], prefix) for number in range(count)]
    finally:
        for line in lines:
            line.close()


def nonces(sent: Sequence[AnsweredRequest]) -> set[str]:
    return {exchange.nonce for exchange in sent}


def _exchange(client: Pod, connection: PodConnection, prefix: str) -> AnsweredRequest:
    nonce = new_nonce()
    target = f"{prefix}/{nonce}"
    connection.request("GET", target, headers={NONCE_HEADER: nonce, "User-Agent": "tapper-harness"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200 or json.loads(body)["nonce"] != nonce:
        raise HarnessError(f"{client.name} asked for {target} and got {response.status}: {body[:200]!r}")
    return AnsweredRequest(nonce, "GET", target, response.status, client.name)
