"""The API server, through the official client: apply, read, wait, remove; errors as one sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client, config
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError, ResourceNotFoundError
from urllib3.exceptions import HTTPError

from harness.errors import HarnessError, Unsupported, WaitTimeout
from harness.worlds.cluster.kustomize import Manifest

MANAGER = "tapper-harness"
"""The field manager of server-side apply."""
_PAUSE_S = 0.2


class ApiRefused(HarnessError):
    """The API server refused a request, or did not answer; `status` is HTTP's, 0 without an answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class ClusterApi:
    """One cluster. Raises Unsupported if the kubeconfig does not lead to one."""

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        try:
            self._config = client.Configuration()
            config.load_kube_config(kubeconfig, context, client_configuration=self._config)
        except (ConfigException, OSError) as error:
            raise Unsupported(f"no cluster can be asked: {error} (--kubeconfig, --context)") from None
        self.kubeconfig, self.context = kubeconfig, context
        self.host = str(self._config.host)
        self.client = client.ApiClient(self._config)
        self._clients = [self.client]
        self.core = client.CoreV1Api(self.client)
        self._dynamic: Any = None

    def fresh_core(self) -> Any:
        """Another client: kubernetes.stream changes the client that it gets while it connects."""
        fresh = client.ApiClient(self._config)
        self._clients.append(fresh)
        return client.CoreV1Api(fresh)

    def close(self) -> None:
        """Close all connections."""
        for connected in self._clients:
            connected.rest_client.pool_manager.clear()
            connected.close()

    @property
    def is_local(self) -> bool:
        return is_local(self.host)

    def version(self) -> str:
        """The server's version, as `v1.34.2`."""
        return str(self.call(lambda: client.VersionApi(self.client).get_code()).git_version)

    def call(self, ask: Callable[[], Any]) -> Any:
        """The API server's answer. Raises `ApiRefused` with its words."""
        with self._asking(f"the API server at {self.host}"):
            return ask()

    def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply; returns the resulting object. Raises `ApiRefused`."""
        with self._asking(f"{_title(manifest)} is not taken"):
            applied = self._kind(manifest).server_side_apply(
                body=manifest, field_manager=MANAGER, force_conflicts=True, **_place(manifest)
            )
        return dict(applied.to_dict())

    def remove(self, manifest: Manifest) -> bool:
        """Ask for the removal of an object; False if it does not exist. Raises `ApiRefused`."""
        with self._asking(f"{_title(manifest)} cannot be removed"):
            try:
                self._kind(manifest).delete(**_place(manifest))
            except NotFoundError:
                return False
        return True

    def get(self, manifest: Manifest) -> Manifest | None:
        """The object of this kind and name now; None if there is none. Raises `ApiRefused`."""
        with self._asking(manifest["kind"]):
            try:
                return dict(self._kind(manifest).get(**_place(manifest)).to_dict())
            except NotFoundError:
                return None

    def list(self, kind: str, namespace: str | None = None, labels: str | None = None) -> list[Manifest]:
        """The objects of a kind of the core API (v1), with the API server's names of fields. Raises `ApiRefused`."""
        with self._asking(f"the list of {kind}s"):
            found = self._resources().get(api_version="v1", kind=kind).get(namespace=namespace, label_selector=labels)
        return [dict(item) for item in found.to_dict()["items"]]

    def has_kind(self, api_version: str, kind: str) -> bool:
        try:
            self._resources().get(api_version=api_version, kind=kind)
        except ResourceNotFoundError:
            return False
        return True

    def wait(self, probe: Callable[[], Any], what: str, timeout: float, why: Callable[[], str] | None = None) -> Any:
        """Repeat the probe until it is true, also while the server is away. Raises WaitTimeout."""
        deadline = time.monotonic() + timeout
        away = ""
        while True:
            try:
                found = probe()
            except ApiRefused as error:
                if error.status and error.status < 500:
                    raise
                found, away = None, f" ({error})"
            if found:
                return found
            if time.monotonic() >= deadline:
                reasons = "" if why is None else f"\n--- what there is ---\n{why()}"
                raise WaitTimeout(f"waited {timeout:g} s for {what}, in vain{away}{reasons}")
            time.sleep(_PAUSE_S)

    @contextmanager
    def _asking(self, subject: str) -> Iterator[None]:
        """Turn a refusal, or no answer, into `ApiRefused`, which begins with the subject."""
        try:
            yield
        except (ApiException, DynamicApiError) as error:
            raise ApiRefused(error.status or 0, f"{subject}: {_reason(error)}") from None
        except HTTPError as error:
            raise ApiRefused(0, f"the API server at {self.host} cannot be reached: {error}") from None

    def _kind(self, manifest: Manifest) -> Any:
        try:
            return self._resources().get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        except ResourceNotFoundError:
            raise ApiRefused(
                404, f"this cluster has no kind {manifest['kind']} of {manifest['apiVersion']}: is Istio installed?"
            ) from None

    def _resources(self) -> Any:
        if self._dynamic is None:
            self._dynamic = self.call(lambda: DynamicClient(self.client))
        return self._dynamic.resources


def _title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _place(manifest: Manifest) -> dict[str, str | None]:
    """The name and the namespace of an object, as the client's arguments."""
    return {"name": manifest["metadata"]["name"], "namespace": manifest["metadata"].get("namespace")}


def is_local(host: str) -> bool:
    """Whether an API server's address is this machine's loopback, as that of kind, minikube and k3d is."""
    name = urlsplit(host).hostname or ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _reason(error: ApiException) -> str:
    """The server's own sentence, if its answer is a Status object (meta/v1)."""
    body = error.body
    try:
        return str(json.loads(body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
