"""Lists and watches of pods at a Kubernetes API server, through the official `kubernetes` package.

The package is imported when it is needed, and answers are read as the server sent them: its models cost more time and
memory than everything else here, and refuse values that a newer server adds. Its class `Watch` is not used: it keeps a
line of any length, and in version 29, the oldest that will do here, its `stop` waits for the next event.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapper.errors import KubernetesError, MissingPackageError, explain
from tapper.targets.podlist import MOST_PODS, ApiError

_CONNECT_S = 5.0
_ANSWER_S = 30.0
LIST_S = 50.0
"""How long all pages of a list may take together."""
_LATE = "its list of pods does not come to its end in time"
_WATCH_S = 290
"""How long the server is asked to keep a watch: API servers end watches after 5 to 10 minutes anyway."""
_PAGE = 100
_MOST_PAGES = 2 * MOST_PODS // _PAGE
_PIECE = 64 << 10  # bytes that are read at a time at most
_LARGEST_LINE = 4 << 20  # bytes; etcd takes objects of 1.5 MiB
_LARGEST_PAGE = 16 << 20
_LARGEST_STATUS = 64 << 10
_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_KEEPALIVE = [  # a server that has vanished is noticed within half a minute, tcp(7)
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


@dataclass(frozen=True, slots=True)
class Access:
    """The way to the API server: a kubeconfig and one of its contexts. With neither, the pod's service account is used
    in a cluster, else kubectl's default kubeconfig."""

    kubeconfig: str | None = None
    context: str | None = None


class PodsApi:
    """The pods of one node at an API server. `labels` is a label selector. Several threads may use it. Raises
    KubernetesError for a bad configuration, and MissingPackageError."""

    def __init__(self, access: Access, node: str, labels: str | None = None) -> None:
        try:
            self._kubernetes: Any = importlib.import_module("kubernetes")
            self._failures = (importlib.import_module("urllib3.exceptions").HTTPError, OSError)
        except ImportError as error:
            raise MissingPackageError(
                f"pods of Kubernetes need the Python package {error.name}, which is not installed: "
                "pip install 'tapper-harness[kubernetes]'"
            ) from None
        self._access = access
        self._selection = {"field_selector": f"spec.nodeName={node}"} | ({"label_selector": labels} if labels else {})
        self.namespace = "default"
        """The current namespace: of the context, or of the service account."""
        self.source = ""
        """The place that `namespace` was read from."""
        self.log_in()

    @property
    def host(self) -> str:
        return str(self._core.api_client.configuration.host)

    def log_in(self) -> None:
        """Read the credentials, which may have been replaced. Raises KubernetesError."""
        configuration = self._kubernetes.client.Configuration()
        where = "" if self._access.kubeconfig is None else f" by {self._access.kubeconfig}"
        try:
            self._load(configuration)
        except self._kubernetes.config.ConfigException as error:
            raise KubernetesError(
                f"there is no way{where} to the Kubernetes API: {error} (--kubeconfig, --context)"
            ) from None
        except OSError as error:
            raise KubernetesError(
                f"there is no way to the Kubernetes API: {error.filename}: {explain(error)} (--kubeconfig, --context)"
            ) from None
        except Exception as error:  # the package lets out any error of a kubeconfig that is no YAML, or has other types
            raise KubernetesError(
                f"the kubeconfig cannot be used ({type(error).__name__}: {' '.join(str(error).split())}) (--kubeconfig)"
            ) from error
        configuration.retries = False  # KubernetesFeed decides when to try again, and says so
        configuration.socket_options = _KEEPALIVE
        self._core = self._kubernetes.client.CoreV1Api(self._kubernetes.client.ApiClient(configuration))

    def _load(self, configuration: Any) -> None:
        config, path, context = self._kubernetes.config, self._access.kubeconfig, self._access.context
        if path is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
            self.namespace = _ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip()
            self.source = "this pod's service account"
            return
        contexts, active = config.list_kube_config_contexts(config_file=path)
        if context is not None:
            active = next((one for one in contexts if one["name"] == context), active)
        config.load_kube_config(
            config_file=path, context=context, client_configuration=configuration, persist_config=False
        )
        self.namespace = active["context"].get("namespace") or "default"
        self.source = f"the kubeconfig's context {active['name']}"

    def list(self, namespace: str | None) -> tuple[list[object], str]:
        """All pods of a namespace, None for all, and the resource version of the list. Raises ApiError."""
        items: list[object] = []
        further: dict[str, Any] = {}
        deadline = time.monotonic() + LIST_S
        for _ in range(_MOST_PAGES):
            times = _CONNECT_S, _ANSWER_S
            with closing(self._ask(namespace, limit=_PAGE, _request_timeout=times, **further)) as answer:
                body = answer.body(_LARGEST_PAGE, deadline)
            if len(body) == _LARGEST_PAGE:
                raise ApiError(0, f"{_PAGE} pods of its list take more than {_LARGEST_PAGE} bytes")
            try:
                page = json.loads(body)
                items += page["items"] or ()  # an old server sends null for an empty list
                version, token = page["metadata"]["resourceVersion"], page["metadata"].get("continue")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ApiError(0, "its answer is no list of pods") from error
            if len(items) > MOST_PODS:
                raise ApiError(0, f"it names more than {MOST_PODS} pods of one node")
            if not token:
                return items, str(version)
            further = {"_continue": token}
        raise ApiError(0, f"its list of pods has more than {_MOST_PAGES} pages")

    def watch(self, namespace: str | None, version: str) -> Answer:
        """The events from that version on: `close` the answer in the end. Raises ApiError."""
        return self._ask(
            namespace,
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=_WATCH_S,
            _request_timeout=(_CONNECT_S, _WATCH_S + _ANSWER_S),
        )

    def _ask(self, namespace: str | None, **parameters: Any) -> Answer:
        parameters |= self._selection | {"_preload_content": False}
        try:
            if namespace is None:
                response = self._core.list_pod_for_all_namespaces(**parameters)
            else:
                response = self._core.list_namespaced_pod(namespace, **parameters)
        except self._kubernetes.client.ApiException as error:  # older versions of the package raise, newer ones return
            if error.status:
                raise ApiError(error.status, _message(error.body, error.reason)) from None
            raise ApiError(0, _reason(error)) from error
        except self._failures as error:
            raise ApiError(0, _reason(error)) from error
        answer = Answer(response, self._failures)
        if response.status != 200:
            with closing(answer):
                try:
                    body = answer.body(_LARGEST_STATUS, time.monotonic() + _ANSWER_S)
                except ApiError:
                    body = b""
                raise ApiError(response.status, _message(body, response.reason))
        return answer


class Answer:
    """An answer of the API server, of which nothing has been read yet. `close` it in the end."""

    def __init__(self, response: Any, failures: tuple[type[Exception], ...]) -> None:
        self._response = response
        self._failures = failures

    def body(self, most: int, deadline: float) -> bytes:
        """The first `most` bytes. Raises ApiError where they are not there at the deadline, by time.monotonic: the time
        limit of a read begins again with each octet, so a timer ends the answer."""
        timer = threading.Timer(deadline - time.monotonic(), self.interrupt)
        try:
            timer.start()
        except RuntimeError:
            pass  # the kernel grants no further thread
        try:
            body: bytes = self._response.read(most)
        except self._failures as error:
            raise ApiError(0, _LATE if time.monotonic() >= deadline else _reason(error)) from error
        finally:
            timer.cancel()
        if time.monotonic() >= deadline:
            raise ApiError(0, _LATE)
        return body

    def lines(self) -> Iterator[bytes]:
        """The lines of a watch, each an event as JSON. They end when the server ends the watch and when the connection
        breaks: in both cases another watch goes on from the last version. A watch that lasts much longer than asked for
        ends here. Raises ApiError for a line without an end."""
        pending = io.BytesIO()  # the beginning of a line
        end = time.monotonic() + _WATCH_S + _ANSWER_S
        try:
            for piece in self._response.stream(amt=_PIECE, decode_content=True):
                beginning, *others = piece.split(b"\n")
                pending.write(beginning)
                for other in others:
                    line, pending = pending.getvalue(), io.BytesIO()
                    pending.write(other)
                    if line:
                        yield line
                if pending.tell() > _LARGEST_LINE:
                    raise ApiError(0, f"it sends a line of more than {_LARGEST_LINE} bytes")
                if time.monotonic() >= end:
                    return
        except self._failures:
            return

    def interrupt(self) -> None:
        """End the answer now. May be called from another thread than the reader's."""
        try:
            self._response.shutdown()
        except (OSError, RuntimeError, ValueError):
            pass  # the connection has ended already

    def close(self) -> None:
        """Give the connection back, or end it where the answer was not read to its end."""
        self._response.close()
        self._response.release_conn()


def _message(body: object, reason: object) -> str:
    """The message of a Status object, else the reason of the status line."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return str(reason).lower()


def _reason(error: BaseException) -> str:
    """The kernel's word for it where the kernel refused: the packages wrap that error several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return explain(cause)
        cause = cause.__cause__ or cause.__context__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].rpartition(">: ")[2]
