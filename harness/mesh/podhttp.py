"""http.client, with its sockets opened inside a pod."""

from __future__ import annotations

import http.client

from harness.sandbox.pod import Pod
from harness.waiting import DEFAULT_TIMEOUT


class PodConnection(http.client.HTTPConnection):
    """An HTTP/1.1 connection whose client is in the pod's network namespace."""

    def __init__(self, pod: Pod, host: str, port: int, timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(host, port, timeout=timeout)
        self._pod = pod
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = self._pod.connect(self.host, self.port, self._seconds)
