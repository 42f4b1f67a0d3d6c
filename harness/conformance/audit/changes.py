"""Changes of a network namespace as they happen, so that a change which is taken back is known, too.

The kernel reports links, addresses, neighbours, routes, rules, queueing disciplines and filters over rtnetlink(7),
nftables over netlink, and writes to sysctls by inotify(7). Nothing reports changes of the older iptables:
`harness.conformance.state` compares the tables of iptables at a few moments.
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
from harness.conformance.audit.words import PROMISCUITY, link_facts, named
from harness.errors import InternalError
from harness.sandbox.bare_node import BareNode
from harness.sandbox.links import netlink
from harness.sandbox.pod import Pod
from harness.waiting import wait_until

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER = 8 << 20
_NETLINK_NETFILTER = 12  # linux/netlink.h
_NFNLGRP_NFTABLES = 7  # linux/netfilter/nfnetlink.h
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_AF_BRIDGE = 7
_NUD_PERMANENT = 0x80  # linux/neighbour.h

# linux/rtnetlink.h: RTNLGRP_LINK, NEIGH, TC, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE
_GROUPS = (1, 3, 4, 5, 7, 8, 9, 11, 19)
# linux/netfilter/nf_tables.h: NFT_MSG_NEWTABLE and other messages that change something
_NFTABLES = {
    0: "table made", 2: "table deleted", 3: "chain made", 5: "chain deleted", 6: "rule made", 8: "rule deleted",
    9: "set made", 11: "set deleted", 12: "set element made", 14: "set element deleted",
}  # fmt: skip

_IFLA_EVENT_FEATURES = 2  # linux/if_link.h

Place = BareNode | Pod


class Changes:
    """The changes of one pod or node, from construction to `close`. `in_words` names them."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lost = False
        self._changes: list[str] = []
        self._promiscuous: set[str] = set()
        self._routing = self._subscribed(socket.NETLINK_ROUTE, _GROUPS)
        try:
            self._tables = self._subscribed(_NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,))
            self._marshal = MarshalRtnl()
            self._names, self._links = _links(place)
            command = [sys.executable, "-I", "-S", str(Path(sysctl_watch.__file__))]
            self._sysctls = place.spawn(command, name="sysctl-watch")
            wait_until(lambda: "watching" in self._sysctls.read_log(), "the watch over sysctls")
        except BaseException:
            self._routing.close()
            raise

    def in_words(self) -> list[str]:
        """Each change since construction, once. Raises `InternalError` if the kernel could not keep them all."""
        self._changes += self._of_links_and_routes()
        self._changes += self._of_tables()
        writes = [line for line in self._sysctls.read_log().splitlines()[1:] if line]
        if self._lost:
            raise InternalError("the kernel lost messages about changes of a network namespace: there were too many")
        if not self._sysctls.running:
            raise InternalError(f"the watch over sysctls has ended: {self._sysctls.read_log()[-500:]}")
        return list(dict.fromkeys([*self._changes, *(f"sysctl {path} was written" for path in writes)]))

    def promiscuous_links(self) -> set[str]:
        """The links that were in promiscuous mode at any time since construction."""
        self.in_words()
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
            except PermissionError:  # an ordinary user gets at most net.core.rmem_max
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
                event = str(message["event"])  # RTM_NEWLINK, RTM_DELADDR …
                deleted = event.startswith("RTM_DEL")
                if event.endswith("LINK"):
                    yield from self._of_link(message, deleted=deleted)
                elif event.endswith("NEIGH"):
                    yield from self._of_neighbour(message, deleted=deleted)
                else:
                    yield f"{named(message, self._names)} was {'deleted' if deleted else 'set'}"

    def _of_link(self, message: Any, *, deleted: bool) -> Iterator[str]:
        """The differences of a link, without promiscuity, which is noted apart."""
        name = str(message.get_attr("IFLA_IFNAME"))
        if message["family"] == _AF_BRIDGE:
            yield f"link {name}: its settings as a port of a bridge changed"
            return
        if deleted:
            self._links.pop(name, None)
            yield f"link {name} was deleted"
            return
        self._names[message["index"]] = name
        known, now = self._links.get(name), link_facts(message)
        self._links[name] = now
        if known is None:
            yield f"link {name} was made"
            return
        changed = {fact for fact, value in now.items() if known.get(fact) != value}
        if PROMISCUITY in changed:
            self._promiscuous.add(name)
        for fact in sorted(changed - {PROMISCUITY}):
            yield f"link {name}: {fact} was {known.get(fact)}, and became {now[fact]}"
        # the kernel also repeats known facts, up to a second after a link has come up (net/core/link_watch.c)
        if not changed and message.get_attr("IFLA_EVENT") == _IFLA_EVENT_FEATURES:
            yield f"link {name}: its features (offloads) changed"

    def _of_neighbour(self, message: Any, *, deleted: bool) -> Iterator[str]:
        """A permanent entry, which a program has set. All others come and go by themselves."""
        if message["state"] & _NUD_PERMANENT and message["family"] != _AF_BRIDGE and not deleted:
            link = self._names.get(message["ifindex"], "a link")
            yield f"neighbour {message.get_attr('NDA_DST')} on {link} was made permanent"

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


def _links(place: Place) -> tuple[dict[int, str], dict[str, dict[str, str]]]:
    """The links' names by index, and the known facts of each."""
    with netlink(place) as talk:
        links = list(talk.get_links())
    names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in links}
    return names, {names[link["index"]]: link_facts(link) for link in links}
