"""The redirect rules of Istio and of Linkerd, as iptables-restore(8) reads them; `install` gives a pod Istio's."""

from __future__ import annotations

import shutil

from harness.errors import Unsupported
from harness.mesh.envoy_config import INBOUND_PORT, LOOPBACK, OUTBOUND_PORT
from harness.mesh.workload import PASSTHROUGH_SOURCE, PROXY_UID
from harness.sandbox import links
from harness.sandbox.bare_node import BareNode
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON

# HBONE, statistics, readiness, agent: never redirected
_INBOUND_EXEMPT = (15008, 15090, 15021, 15020)


def install(pod: Pod) -> None:
    """Give a pod Istio's rules for IPv4 and IPv6, and the address ::6 that its proxy connects from.

    Raises `Unsupported` where iptables-restore is not installed.
    """
    if shutil.which("iptables-restore", path=MINIMAL_ENVIRON["PATH"]) is None:
        raise Unsupported("a sidecar's redirect rules need iptables-restore: install the package iptables")
    mark = proxy_mark(pod.node)
    pod.run(["iptables-restore"], text=sidecar_rules(4, mark))
    pod.run(["ip6tables-restore"], text=sidecar_rules(6, mark))
    links.add_loopback_address(pod, PASSTHROUGH_SOURCE[6])


def proxy_mark(node: BareNode) -> int | None:
    """The socket mark that replaces uid 1337 on a node that has only one uid; None if the node has uid 1337.

    On a node with one uid the kernel refuses rules that name uid 1337.
    """
    return PROXY_UID if node.single_id else None


def sidecar_rules(family: int, mark: int | None = None) -> str:
    """The nat table of a pod with a sidecar, for IPv4 (4) or IPv6 (6).

    The proxy's own connections are recognised by its uid and gid, as Istio does it, or by a socket mark where the proxy
    cannot have a uid of its own.
    """
    bits = 32 if family == 4 else 128
    loopback, passthrough = f"{LOOPBACK[family]}/{bits}", f"{PASSTHROUGH_SOURCE[family]}/{bits}"
    proxies = [f"-m owner --{what}-owner {PROXY_UID}" for what in ("uid", "gid")]
    others = [f"-m owner ! --{what}-owner {PROXY_UID}" for what in ("uid", "gid")]
    if mark is not None:
        proxies, others = [f"-m mark --mark {mark}"], [f"-m mark ! --mark {mark}"]
    lines = [
        "*nat",
        ":ISTIO_INBOUND - [0:0]",
        ":ISTIO_IN_REDIRECT - [0:0]",
        ":ISTIO_OUTPUT - [0:0]",
        ":ISTIO_REDIRECT - [0:0]",
        f"-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {INBOUND_PORT}",
        f"-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {OUTBOUND_PORT}",
        "-A PREROUTING -p tcp -j ISTIO_INBOUND",
        *(f"-A ISTIO_INBOUND -p tcp --dport {port} -j RETURN" for port in _INBOUND_EXEMPT),
        "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT",
        "-A OUTPUT -p tcp -j ISTIO_OUTPUT",
        f"-A ISTIO_OUTPUT -s {passthrough} -o lo -j RETURN",
    ]
    for proxy, other in zip(proxies, others, strict=True):
        lines += [
            # a pod that calls itself through a service: the outbound connection of the proxy is also inbound
            f"-A ISTIO_OUTPUT ! -d {loopback} -o lo -p tcp ! --dport 15008 {proxy} -j ISTIO_IN_REDIRECT",
            f"-A ISTIO_OUTPUT -o lo {other} -j RETURN",
            f"-A ISTIO_OUTPUT {proxy} -j RETURN",
        ]
    lines += [f"-A ISTIO_OUTPUT -d {loopback} -j RETURN", "-A ISTIO_OUTPUT -j ISTIO_REDIRECT", "COMMIT"]
    return "\n".join(lines) + "\n"


def service_rule(address: str, port: int, target: str, target_port: int, share: int) -> str:
    """An IPv4 service address as kube-proxy programs it: one endpoint, taken by every `share`-th connection."""
    statistic = "" if share == 1 else f" -m statistic --mode nth --every {share} --packet 0"
    return (
        f"-A PREROUTING -d {address} -p tcp --dport {port}{statistic} -j DNAT --to-destination {target}:{target_port}\n"
    )


LINKERD_OUTBOUND_PORT = 4140
LINKERD_INBOUND_PORT = 4143
LINKERD_UID = 2102
"""The user of Linkerd's proxy."""
_LINKERD_EXEMPT = (4190, 4191, 4567, 4568)
"""The proxy's own ports for control and administration, which are not redirected."""


def linkerd_rules() -> str:
    """The nat table of a pod with Linkerd's proxy, as its init container (proxy-init) writes it; for IPv4 and IPv6."""
    exempt = ",".join(map(str, _LINKERD_EXEMPT))
    lines = [
        "*nat",
        ":PROXY_INIT_REDIRECT - [0:0]",
        ":PROXY_INIT_OUTPUT - [0:0]",
        f"-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports {exempt} -j RETURN",
        f"-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-ports {LINKERD_INBOUND_PORT}",
        "-A PREROUTING -j PROXY_INIT_REDIRECT",
        f"-A PROXY_INIT_OUTPUT -m owner --uid-owner {LINKERD_UID} -j RETURN",
        "-A PROXY_INIT_OUTPUT -o lo -j RETURN",
        f"-A PROXY_INIT_OUTPUT -p tcp -m multiport --dports {exempt} -j RETURN",
        f"-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-ports {LINKERD_OUTBOUND_PORT}",
        "-A OUTPUT -j PROXY_INIT_OUTPUT",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


TPROXY_MARK = 1337
TPROXY_TABLE = 133


def tproxy_rules() -> str:
    """The mangle table of a pod with Istio's interception mode TPROXY, for IPv4: packets that come in reach the proxy
    with their addresses as they are, and the proxy's connections to the application come from the caller's address.

    Packets with TPROXY_MARK are to be routed by TPROXY_TABLE, which leads all of them to the pod itself.
    """
    lines = [
        "*mangle",
        ":ISTIO_DIVERT - [0:0]",
        ":ISTIO_INBOUND - [0:0]",
        ":ISTIO_TPROXY - [0:0]",
        f"-A ISTIO_DIVERT -j MARK --set-mark {TPROXY_MARK}",
        "-A ISTIO_DIVERT -j ACCEPT",
        f"-A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --on-port {INBOUND_PORT} --tproxy-mark {TPROXY_MARK}",
        "-A PREROUTING -p tcp -j ISTIO_INBOUND",
        f"-A PREROUTING -p tcp -m mark --mark {TPROXY_MARK} -j CONNMARK --save-mark",
        f"-A OUTPUT -p tcp -m connmark --mark {TPROXY_MARK} -j CONNMARK --restore-mark",
        f"-A ISTIO_INBOUND -p tcp -m mark --mark {TPROXY_MARK} -j RETURN",
        "-A ISTIO_INBOUND -p tcp -i lo -j RETURN",
        *(f"-A ISTIO_INBOUND -p tcp --dport {port} -j RETURN" for port in _INBOUND_EXEMPT),
        "-A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT",
        "-A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"
