"""The configuration of a network namespace: everything that a tapper might change but must not."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from harness.conformance.audit.words import PROMISCUITY, link_facts, named
from harness.sandbox.links import features, netlink
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.waiting import wait_until

_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40  # linux/if.h
_SCOPE_LINK = 253  # RT_SCOPE_LINK, linux/rtnetlink.h
_TENTATIVE = 0x40  # IFA_F_TENTATIVE, linux/if_addr.h
# counters and clocks, which change by themselves
_MOVING = ("nf_conntrack_count", "tcp_fastopen_key", "stable_secret", "/inet_peer", "tcp_mem", "udp_mem")


def snapshot(place: Node | Pod) -> dict[str, str]:
    """Links, addresses, routes, rules, queueing disciplines, packet filters, sysctls: name -> value."""
    found: dict[str, str] = {}
    with netlink(place) as talk:
        links = {link["index"]: link.get_attr("IFLA_IFNAME") for link in talk.get_links()}
        for link in talk.get_links():
            name = link.get_attr("IFLA_IFNAME")
            found |= {f"link {name}: {fact}": value for fact, value in link_facts(link).items()}
            found[f"link {name}: features (offloads)"] = features(place, name)
        for messages in (talk.get_addr(), talk.get_routes(), talk.get_rules(), talk.get_qdiscs()):
            found |= {named(message, links): "there" for message in messages}
    for tool in ("iptables-save", "ip6tables-save"):
        table = ""
        for line in place.run(
            [tool]
        ).splitlines():  # iptables-save(8): `*TABLE`, `:CHAIN POLICY [packets:bytes]`, rules
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith((":", "-")):
                found[f"{tool.partition('-')[0]}, table {table}, {line.partition(' [')[0]}"] = "there"
    for line in place.run(["sh", "-c", "grep -rs . /proc/sys/net; true"]).splitlines():
        name, _, value = line.partition(":")
        if not any(part in name for part in _MOVING):
            found[f"sysctl {name}"] = value
    return found


def wait_settled(place: Node | Pod) -> None:
    """Wait until the kernel has finished with links that have just come up.

    A link that is up gets RUNNING, and its link-local address with its routes, a moment later; a snapshot before that
    differs from one after it though nobody has changed anything.
    """

    def settled() -> bool:
        with netlink(place) as talk:
            links = [link for link in talk.get_links() if link["flags"] & _IFF_UP and not link["flags"] & _IFF_LOOPBACK]
            addresses = talk.get_addr(family=socket.AF_INET6)
        local = {each["index"] for each in addresses if each["scope"] == _SCOPE_LINK and not each["flags"] & _TENTATIVE}
        speaks_ipv6 = {each["index"] for each in addresses}
        return all(link["flags"] & _IFF_RUNNING for link in links) and all(
            link["index"] in local for link in links if speaks_ipv6
        )

    wait_until(settled, f"the links of {place} to be up and to have their link-local addresses")


def differences(before: Mapping[str, str], after: Mapping[str, str], *, lasting: bool = True) -> list[str]:
    """The differences, in words. With `lasting=False` without promiscuous mode, which a capture may need."""
    changed = [
        f"{key} was {before[key]}, and became {after[key]}"
        for key in before.keys() & after.keys()
        if before[key] != after[key] and (lasting or not key.endswith(PROMISCUITY))
    ]
    return sorted(
        [*changed, *(f"{key} is gone" for key in before.keys() - after.keys())]
        + [f"{key} is new" for key in after.keys() - before.keys()]
    )


def packet_sockets(pod: Pod) -> int:
    """The number of packet sockets in a pod's network namespace, whoever has them (packet(7))."""
    return len(pod.run(["cat", "/proc/net/packet"]).splitlines()) - 1


def sent_by(pod: Pod) -> dict[str, int]:
    """The counters of what sockets in a pod's network namespace have sent, without neighbour discovery (proc(5),
    net/snmp)."""
    counters: dict[str, int] = {}
    lines = pod.run(["cat", "/proc/net/snmp"]).splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        layer, *keys = names.split()
        counters |= {layer + key: int(value) for key, value in zip(keys, values.split()[1:], strict=True)}
    counters |= {key: int(value) for key, value in map(str.split, pod.run(["cat", "/proc/net/snmp6"]).splitlines())}
    return {
        "connections opened": counters["Tcp:ActiveOpens"],
        "UDP datagrams": counters["Udp:OutDatagrams"] + counters["Udp6OutDatagrams"],
        "ICMP messages": counters["Icmp:OutMsgs"] + counters["Icmp6OutEchos"],
    }
