"""The role in the mesh that a process states: a gateway's proxy, an application without a proxy, a Linkerd pod.

Arguments and environment are the process's own word, so they explain, and never decide what is captured.

pilot-agent is started as `pilot-agent proxy ROLE`, with ROLE `sidecar`, `router` or `waypoint`, and starts Envoy as its
child (Istio's injection templates; pkg/envoy/proxy.go). Older releases also give Envoy `--service-node ROLE~IP~…`.
ISTIO_META_INTERCEPTION_MODE does not tell: gateways have REDIRECT, too. Proxyless pods (template grpc-agent) have
GRPC_XDS_BOOTSTRAP in the application's environment and ISTIO_META_GENERATOR=grpc in the agent's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tapper.discovery.envoy import LINKERD_VARIABLES, first_value
from tapper.discovery.procfs import Procfs
from tapper.targets.pods import PodName

_GATEWAYS = frozenset({b"router", b"waypoint"})
_SERVICE_NODE = b"--service-node"


def gateway_role(procfs: Procfs, pid: int) -> str | None:
    """`router` or `waypoint` if an Envoy, or the agent that started it, names this role; else None."""
    parent = procfs.parent(pid)
    for process in (pid, parent):
        role = None if process is None else role_of(procfs.arguments(process))
        if role is not None:
            return role.decode() if role in _GATEWAYS else None
    return None


def role_of(argv: Sequence[bytes]) -> bytes | None:
    """The role that a command line of Envoy or pilot-agent names."""
    if len(argv) >= 3 and argv[0].rpartition(b"/")[2] == b"pilot-agent" and argv[1] == b"proxy":
        return argv[2]
    return next((node.partition(b"~")[0] for node in _service_nodes(argv) if b"~" in node), None)


def _service_nodes(argv: Sequence[bytes]) -> Iterator[bytes]:
    for word, following in zip(argv, [*argv[1:], b""], strict=False):
        if word == _SERVICE_NODE:
            yield following
        elif word.startswith(_SERVICE_NODE + b"="):
            yield word.partition(b"=")[2]


def is_proxyless(environ: bytes) -> bool:
    """Whether an environment is that of a proxyless gRPC application, or of its agent."""
    return bool(first_value(environ, b"GRPC_XDS_BOOTSTRAP")) or first_value(environ, b"ISTIO_META_GENERATOR") == b"grpc"


def linkerd_pod(environ: bytes) -> PodName | None:
    """The pod's name, which Linkerd's injector writes into its proxy's environment (charts/partials, _proxy.tpl)."""
    name, namespace = (first_value(environ, variable) for variable in LINKERD_VARIABLES)
    if not name or not namespace:
        return None
    return PodName(namespace.decode("utf-8", "replace"), name.decode("utf-8", "replace"))
