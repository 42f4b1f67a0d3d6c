"""Asking a Kubernetes API server for pods, through the official `kubernetes` package, which is imported when needed.

Answers are read as the server sent them: the package's models cost more time and memory than all else, and refuse what
a newer server adds.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from tapper.errors import KubernetesError, MissingPackageError, explain

_CONNECT_S = 5.0
_ANSWER_S = 30.0
_WATCH_S = 290
"""How long the server is asked to keep a watch: API servers close them after 5 to 10 minutes anyway."""
_PAGE = 500
_LARGEST_LINE = 16 << 20  # bytes; etcd takes objects of 1.5 MiB
_LARGEST_STATUS = 64 << 10
_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_KEEPALIVE = [  # a server that is gone without a word is noticed within half a minute, tcp(7)
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class Unreachable(KubernetesError):
    """No answer, or one that is none."""


class Refused(KubernetesError):
    """The server has answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server: a kubeconfig and one of its contexts. None of either is this pod's service account
    where there is one, else the kubeconfig that kubectl would take."""

    kubeconfig: str | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pods to ask for."""

    namespace: str | None
    """None is all namespaces."""
    node: str
    labels: str | None = None

    @property
    def place(self) -> str:
        return "all namespaces" if self.namespace is None else f"the namespace {self.namespace}"


class PodsApi:
    """An API server. May be used by several threads. Raises KubernetesError for a bad configuration, and
    MissingPackageError."""

    def __init__(self, access: Access) -> None:
        try:
            self._kubernetes: ModuleType = importlib.import_module("kubernetes")
            self._rest_errors: ModuleType = importlib.import_module("urllib3.exceptions")
        except ImportError as error:
            raise MissingPackageError(
                f"the package {error.name} is not installed, and pods are asked of Kubernetes through it: "
                "pip install 'tapper-harness[kubernetes]'"
            ) from None
        self._access = access
        self.namespace = "default"
        """The current one: of the context, or of the service account."""
        self.source = ""
        """What `namespace` was read from."""
        self._core = self._configure()

    @property
    def host(self) -> str:
        return str(self._core.api_client.configuration.host)

    def log_in_again(self) -> None:
        """Read the credentials again: they may have been replaced. Raises KubernetesError."""
        self._core = self._configure()

    def list(self, selection: Selection) -> tuple[list[object], str]:
        """All pods of the selection, and the resource version of the list. Raises Refused and Unreachable."""
        items: list[object] = []
        further: dict[str, Any] = {}
        while True:
            with _Answer(self._ask(selection, limit=_PAGE, _request_timeout=(_CONNECT_S, _ANSWER_S), **further)) as got:
                try:
                    page = json.loads(got.response.read())
                    items += page["items"] or ()  # null where a server of old has none
                    version, token = page["metadata"]["resourceVersion"], page["metadata"].get("continue")
                except self._failures() as error:
                    raise Unreachable(_reason(error)) from error
                except (ValueError, KeyError, TypeError) as error:
                    raise Unreachable("what it sends is no list of pods") from error
            if not token:
                return items, str(version)
            further = {"_continue": token}

    def watch(self, selection: Selection, version: str) -> Watch:
        """What happens to them from that version on. Raises Refused and Unreachable."""
        response = self._ask(
            selection,
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=_WATCH_S,
            _request_timeout=(_CONNECT_S, _WATCH_S + _ANSWER_S),
        )
        return Watch(response, self._failures())

    def _configure(self) -> Any:
        configuration = self._kubernetes.client.Configuration()
        config, access = self._kubernetes.config, self._access
        try:
            if access.kubeconfig is None and access.context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)
                self.namespace = _ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip()
                self.source = "this pod's service account"
            else:
                _, active = config.list_kube_config_contexts(config_file=access.kubeconfig)
                if access.context is not None:
                    contexts, _ = config.list_kube_config_contexts(config_file=access.kubeconfig)
                    active = next((each for each in contexts if each["name"] == access.context), active)
                config.load_kube_config(
                    config_file=access.kubeconfig,
                    context=access.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
                self.namespace = active["context"].get("namespace") or "default"
                self.source = f"the kubeconfig's context {active['name']}"
        except config.ConfigException as error:
            where = "" if access.kubeconfig is None else f" by {access.kubeconfig}"
            raise KubernetesError(
                f"there is no way{where} to the Kubernetes API: {error} (--kubeconfig, --context)"
            ) from None
        except OSError as error:
            raise KubernetesError(
                f"there is no way to the Kubernetes API: {error.filename}: {explain(error)} (--kubeconfig, --context)"
            ) from None
        except Exception as error:  # a kubeconfig that is no YAML, or YAML of another shape: the package lets all out
            raise KubernetesError(
                f"the kubeconfig cannot be used ({type(error).__name__}: {' '.join(str(error).split())}) (--kubeconfig)"
            ) from error
        configuration.retries = False  # whoever calls decides when to try again, and says so
        configuration.socket_options = _KEEPALIVE
        return self._kubernetes.client.CoreV1Api(self._kubernetes.client.ApiClient(configuration))

    def _ask(self, selection: Selection, **parameters: Any) -> Any:
        if selection.labels is not None:
            parameters["label_selector"] = selection.labels
        parameters |= {"field_selector": f"spec.nodeName={selection.node}", "_preload_content": False}
        try:
            if selection.namespace is None:
                response = self._core.list_pod_for_all_namespaces(**parameters)
            else:
                response = self._core.list_namespaced_pod(selection.namespace, **parameters)
        except self._kubernetes.client.ApiException as error:  # older versions of the package raise what newer return
            if error.status:
                raise Refused(error.status, _message(error.body, error.reason)) from None
            raise Unreachable(_reason(error)) from error
        except self._failures() as error:
            raise Unreachable(_reason(error)) from error
        if response.status != 200:
            with _Answer(response):
                try:
                    body = response.read(_LARGEST_STATUS)
                except self._failures():
                    body = b""
                raise Refused(response.status, _message(body, response.reason))
        return response

    def _failures(self) -> tuple[type[Exception], ...]:
        return (self._rest_errors.HTTPError, OSError)


class _Answer:
    """Gives a connection back, or ends it where the answer was not read to its end."""

    def __init__(self, response: Any) -> None:
        self.response = response

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.response.close()
        self.response.release_conn()


class Watch(_Answer):
    """The lines of a watch, each an event as JSON. It ends when the server says so and when the connection breaks,
    which makes no difference: another watch goes on from the last version."""

    def __init__(self, response: Any, failures: tuple[type[Exception], ...]) -> None:
        super().__init__(response)
        self._failures = failures
        self._lock = threading.Lock()
        try:
            self._connection: socket.socket | None = socket.socket(fileno=os.dup(response.fileno()))
        except OSError:  # it has ended already: http.client closes what was read to its end
            self._connection = None

    def __iter__(self) -> Iterator[bytes]:
        pending = bytearray()
        try:
            for piece in self.response.stream(amt=None, decode_content=True):
                pending += piece
                *lines, rest = pending.split(b"\n")
                pending = rest
                if len(pending) > _LARGEST_LINE:
                    raise Unreachable("it sends a line without an end")
                yield from (bytes(line) for line in lines if line)
        except self._failures:
            return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        super().__exit__(kind, error, trace)

    def interrupt(self) -> None:
        """From another thread: end it now."""
        with self._lock:
            if self._connection is None:
                return
            try:
                self._connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster


def _message(body: object, reason: object) -> str:
    """What a Status object says, else what the status line says."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return str(reason).lower()


def _reason(error: BaseException) -> str:
    """The kernel's word for it where the kernel refused: the packages wrap that several times over."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return explain(cause)
        cause = cause.__cause__ or cause.__context__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].rpartition(">: ")[2]
