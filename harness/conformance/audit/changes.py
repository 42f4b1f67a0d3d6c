"""Changes of a network namespace as they happen, so that one that is taken back is known, too.

The kernel tells of links, addresses, routes, rules, queueing disciplines and filters over rtnetlink(7), of nftables
over netlink, and of writes to sysctls by inotify(7). Of the older iptables nothing tells: `harness.conformance.state`
compares those at a few moments.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pyroute2.netlink.rtnl.iprsocket import MarshalRtnl

from harness.conformance.audit import sysctl_watch
from harness.errors import InternalError
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.waiting import wait_until

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER = 8 << 20
_NETLINK_NETFILTER = 12  # linux/netlink.h
_NFNLGRP_NFTABLES = 7  # linux/netfilter/nfnetlink.h
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_AF_BRIDGE = 7
_IFF_PROMISC = 0x100  # linux/if.h

# linux/rtnetlink.h: RTNLGRP_LINK, TC, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE
_GROUPS = (1, 4, 5, 7, 8, 9, 11, 19)
_NOUNS = {
    "LINK": "link",
    "ADDR": "address",
    "ROUTE": "route",
    "RULE": "routing rule",
    "QDISC": "queueing discipline",
    "TCLASS": "traffic class",
    "TFILTER": "traffic filter",
    "CHAIN": "traffic filter chain",
    "ACTION": "traffic action",
}
# linux/netfilter/nf_tables.h: NFT_MSG_NEWTABLE and so on; what is left out only reads
_NFTABLES = {
    0: "table made", 2: "table deleted", 3: "chain made", 5: "chain deleted", 6: "rule made", 8: "rule deleted",
    9: "set made", 11: "set deleted", 12: "set element made", 14: "set element deleted",
}  # fmt: skip

Place = Node | Pod


class Changes:
    """Of one place, from construction to `close`. `told` gives what has changed so far, in words."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lost = False
        self._told: list[str] = []
        self._promiscuous: set[str] = set()
        self._routing = self._subscribed(socket.NETLINK_ROUTE, _GROUPS)
        try:
            self._tables = self._subscribed(_NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,))
            self._marshal = MarshalRtnl()
            self._links = _links(place)
            command = [sys.executable, "-I", "-S", str(Path(sysctl_watch.__file__))]
            self._sysctls = place.spawn(command, name="sysctl-watch")
            wait_until(lambda: "watching" in self._sysctls.read_log(), "the watch over sysctls")
        except BaseException:
            self._routing.close()
            raise

    def told(self) -> list[str]:
        """Each change since construction, once. Raises `InternalError` where the kernel could not keep them all."""
        self._told += self._of_links_and_routes()
        self._told += self._of_tables()
        writes = [line for line in self._sysctls.read_log().splitlines()[1:] if line]
        if self._lost:
            raise InternalError("more changes of a network namespace than could be told: the watch over it lost some")
        if not self._sysctls.running:
            raise InternalError(f"the watch over sysctls has ended: {self._sysctls.read_log()[-500:]}")
        return list(dict.fromkeys([*self._told, *(f"sysctl {path} was written" for path in writes)]))

    def promiscuous_links(self) -> set[str]:
        """The links that somebody has switched to promiscuous mode since construction, though it may be off again."""
        self.told()
        return set(self._promiscuous)

    def close(self) -> None:
        self._routing.close()
        self._tables.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inner -----------------------------------------------------------------------------------------------------

    def _subscribed(self, family: int, groups: tuple[int, ...]) -> socket.socket:
        sock = self._place.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        try:
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            except PermissionError:  # an ordinary user has to do with what the machine allows
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.bind((0, sum(1 << group - 1 for group in groups)))
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    def _of_links_and_routes(self) -> Iterator[str]:
        for data in self._queued(self._routing):
            for message in self._marshal.parse(data):
                event = str(message["event"])  # RTM_NEWLINK
                verb, noun = event[4:7], _NOUNS.get(event[7:], event[7:].lower())
                if noun == "link":
                    yield from self._of_link(message, deleted=verb == "DEL")
                else:
                    yield f"{noun} {'deleted' if verb == 'DEL' else 'set'}: {_summary(message)}"

    def _of_link(self, message: Any, *, deleted: bool) -> Iterator[str]:
        """What is different about it, but for promiscuity, which is noted apart."""
        name = str(message.get_attr("IFLA_IFNAME"))
        if deleted and message["family"] != _AF_BRIDGE:
            self._links.pop(name, None)
            yield f"link {name} deleted"
            return
        if message["family"] == _AF_BRIDGE:
            yield f"bridge port {name} changed"
            return
        known, now = self._links.get(name), _facts(message)
        self._links[name] = now
        if known is None:
            yield f"link {name} made"
            return
        differences = [
            f"{key} {known.get(key)} became {value}" for key, value in now.items() if known.get(key) != value
        ]
        promiscuity = [each for each in differences if each.startswith("promiscuity")]
        if promiscuity:
            self._promiscuous.add(name)
        rest = [each for each in differences if each not in promiscuity]
        if rest:
            yield f"link {name}: {', '.join(rest)}"
        elif not promiscuity:
            yield f"link {name}: its features (offloads) or settings changed"

    def _of_tables(self) -> Iterator[str]:
        for data in self._queued(self._tables):
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                at += max(length, _HEADER.size) + 3 & ~3
                if kind & 0xFF in _NFTABLES:  # the upper byte is NFNL_SUBSYS_NFTABLES
                    yield f"nftables {_NFTABLES[kind & 0xFF]}"

    def _queued(self, sock: socket.socket) -> Iterator[bytes]:
        while True:
            try:
                yield sock.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True


def _links(place: Place) -> dict[str, dict[str, object]]:
    from harness.sandbox.links import netlink  # noqa: PLC0415 - beside its one use

    with netlink(place) as talk:
        return {str(link.get_attr("IFLA_IFNAME")): _facts(link) for link in talk.get_links()}


def _facts(link: Any) -> dict[str, object]:
    """What is known of a link that only somebody changes. Its flags without those about promiscuity."""
    keys = ("IFLA_MTU", "IFLA_TXQLEN", "IFLA_MASTER", "IFLA_QDISC", "IFLA_ADDRESS", "IFLA_OPERSTATE", "IFLA_GROUP")
    facts: dict[str, object] = {"flags": hex(link["flags"] & ~_IFF_PROMISC)}
    facts |= {key[5:].lower(): link.get_attr(key) for key in keys}
    xdp = link.get_attr("IFLA_XDP")
    facts["XDP program"] = bool(xdp and xdp.get_attr("IFLA_XDP_ATTACHED"))
    facts["promiscuity"] = link.get_attr("IFLA_PROMISCUITY")
    return facts


def _summary(message: Any) -> str:
    """The attributes that name it."""
    named = ("IFA_LOCAL", "IFA_ADDRESS", "RTA_DST", "RTA_GATEWAY", "FRA_SRC", "FRA_DST", "FRA_PRIORITY", "TCA_KIND")
    values = {key.partition("_")[2].lower(): message.get_attr(key) for key in named}
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None) or "unnamed"
