"""Programs in containers, by the API server's exec, and the logs of containers."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from kubernetes.client import ApiException
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError
from websocket import WebSocketException

from harness.errors import HarnessError, WaitTimeout
from harness.waiting import wait_until
from harness.worlds.cluster.api import ClusterApi

_STOP_S = 30.0
_AWAY_S = 60.0
"""How long an API server may be away while a log is followed."""
_AGAIN_S = 0.5
LEASH = ["python", "-m", "harness.worlds.programs.leash"]


def _connect(api: ClusterApi, space: str, pod: str, container: str, argv: Sequence[str], *, stdin: bool) -> Any:
    core = api.fresh_core()
    return api.call(
        lambda: stream(
            core.connect_get_namespaced_pod_exec,
            pod,
            space,
            command=list(argv),
            container=container,
            stdin=stdin,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
    )


def _close(session: Any) -> None:
    """Close a session and its socket, which the client would leave to the garbage collector."""
    session.close()
    session.sock.shutdown()


def run(api: ClusterApi, space: str, pod: str, container: str, argv: Sequence[str], timeout: float = 60.0) -> str:
    """Run a program to its end: its standard output. Raises HarnessError with all its output unless it ended with 0."""
    session = _connect(api, space, pod, container, argv, stdin=False)
    out, err = [], []
    deadline = time.monotonic() + timeout
    try:
        while session.is_open():
            session.update(timeout=1)
            out.append(session.read_stdout(timeout=0) if session.peek_stdout() else "")
            err.append(session.read_stderr(timeout=0) if session.peek_stderr() else "")
            if time.monotonic() > deadline:
                raise WaitTimeout(f"waited {timeout:g} s for {' '.join(argv)} in {pod} to end, in vain: {''.join(out)}")
        out.append(session.read_stdout(timeout=0) or "")
        err.append(session.read_stderr(timeout=0) or "")
        code = session.returncode
    finally:
        _close(session)
    if code != 0:
        raise HarnessError(f"{' '.join(argv)} in {pod} ended with {code}:\n{''.join(out)}{''.join(err)}")
    return "".join(out)


class ClusterProgram:
    """A `Program` that runs until it is stopped, on a leash (`harness.worlds.programs.leash`)."""

    def __init__(self, api: ClusterApi, space: str, pod: str, container: str, argv: Sequence[str]) -> None:
        self._session = _connect(api, space, pod, container, [*LEASH, *argv], stdin=True)
        self._what = f"{' '.join(argv)} in {pod}"
        self._out: list[str] = []
        self._err: list[str] = []
        self._stopping = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._pump, name=f"exec in {pod}", daemon=True)
        self._thread.start()

    def output(self) -> str:
        return "".join(self._out)

    def wait_output(self, text: str) -> None:
        said = f"{text!r} from {self._what}"
        wait_until(lambda: text in self.output(), said, _STOP_S, lambda: "".join(self._out + self._err))

    def stop(self) -> str:
        self._stopping.set()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            raise WaitTimeout(f"{self._what} does not end: {''.join(self._err)}")
        return self.output()

    def _pump(self) -> None:
        """Only this thread uses the session, which is not for several threads."""
        try:
            while self._session.is_open():
                if self._stopping.is_set() and not self._told:
                    self._told = True
                    self._session.write_stdin("end\n")
                self._session.update(timeout=0.1)
                self._take()
            self._take()
        except (WebSocketException, OSError) as error:  # the API server is gone, and the program with the session
            self._err.append(f"the connection to it has broken: {error}\n")
        finally:
            _close(self._session)

    def _take(self) -> None:
        if self._session.peek_stdout():
            self._out.append(self._session.read_stdout(timeout=0))
        if self._session.peek_stderr():
            self._err.append(self._session.read_stderr(timeout=0))


class FollowedLog:
    """The log of a container, line by line, while it grows. Ends with the container.

    After a broken connection, as when the API server starts again, it connects anew and skips the lines that it has.
    `container_id` tells the container from its successor, whose log is another.
    """

    def __init__(self, api: ClusterApi, space: str, pod: str, container: str, container_id: str) -> None:
        self.lines: list[str] = []
        self.failure: str | None = None
        self._api, self._space, self._pod, self._container = api, space, pod, container
        self._id = container_id
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"log of {pod}", daemon=True)
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Whether the log has ended after so many seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Do not connect again."""
        self._cancelled.set()

    def _follow(self) -> None:
        deadline = time.monotonic() + _AWAY_S
        while time.monotonic() < deadline and not self._cancelled.is_set():
            read = len(self.lines)
            try:
                self._read()
                self.failure = None
                if self._cancelled.is_set() or not self._goes_on():
                    return
            except (ApiException, HTTPError) as error:
                self.failure = f"the log of {self._pod} cannot be read: {error}"
                if isinstance(error, ApiException) and error.status in (400, 404):
                    return  # the pod or its log is gone
            if len(self.lines) > read:
                deadline = time.monotonic() + _AWAY_S
            self._cancelled.wait(_AGAIN_S)

    def _read(self) -> None:
        """Read the log over one connection."""
        rest, skip = b"", len(self.lines)
        response = self._api.fresh_core().read_namespaced_pod_log(
            self._pod, self._space, container=self._container, follow=True, _preload_content=False
        )
        try:
            for chunk in response.stream(1 << 16, decode_content=False):
                *whole, rest = (rest + chunk).split(b"\n")
                self.lines += [line.decode(errors="replace") for line in whole[skip:]]
                skip = max(0, skip - len(whole))
        finally:
            response.close()
            response.release_conn()

    def _goes_on(self) -> bool:
        """Whether the container still runs, though its log's connection has ended."""
        pod = self._api.fresh_core().read_namespaced_pod(self._pod, self._space)
        known = (pod.status.container_statuses or []) + (pod.status.init_container_statuses or [])
        (status,) = [status for status in known if status.name == self._container]
        return status.container_id == self._id and status.state.running is not None
