"""The node's links, addresses and routes, written over netlink.

Every pod hangs on the node's bridge but is routed, not switched: it has a host route to the gateway only, so that
packets between pods pass the node's own IP layer (and its service addresses) both ways, as on a real node.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Protocol

from pyroute2 import IPRoute

BRIDGE = "cni0"
POD_NET4 = IPv4Network("10.244.0.0/16")
POD_NET6 = IPv6Network("fd00:10:244::/64")
GATEWAY4 = POD_NET4[1]
GATEWAY6 = POD_NET6[1]

_BRIDGE_MAC = "02:00:0a:f4:00:01"
"""A fixed address: a bridge without one takes the lowest of its ports' addresses, and so changes it as pods come and
go, while the pods go on sending to the address that they know."""
_FIRST_POD = 2
_NODAD = 0x02  # IFA_F_NODAD, linux/if_addr.h: usable at once, without duplicate address detection
_SCOPE_LINK = 253  # RT_SCOPE_LINK, linux/rtnetlink.h
_MAX_IFNAME = 15  # IFNAMSIZ - 1
_SIOCGIFINDEX = 0x8933
_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_GFEATURES = 0x3A  # linux/ethtool.h
_FEATURE_WORDS = 4


class SocketSource(Protocol):
    """A node, a pod, or (the module `socket`) the caller: it opens sockets in its network namespace."""

    def socket(self, family: int, kind: int, proto: int = 0, /) -> socket.socket: ...


@dataclass(frozen=True, slots=True)
class PodAddresses:
    """The names and addresses of pod number `index` (from 0)."""

    index: int

    @property
    def ipv4(self) -> IPv4Address:
        return POD_NET4[_FIRST_POD + self.index]

    @property
    def ipv6(self) -> IPv6Address:
        return POD_NET6[_FIRST_POD + self.index]


def host_link_name(pod: str, index: int) -> str:
    """The name of the node's end of a pod's veth: the pod's own name where the kernel allows it."""
    if len(pod) <= _MAX_IFNAME:
        return pod
    suffix = f"-{index}"
    return pod[: _MAX_IFNAME - len(suffix)] + suffix


@contextmanager
def netlink(where: SocketSource) -> Iterator[Any]:
    """pyroute2 over a socket that was opened inside `where`: this process stays in its own namespace."""
    sock = where.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
    with IPRoute(fileno=sock.detach(), groups=0) as talk:  # pyroute2 closes the socket
        yield talk


def set_up_node(node: SocketSource) -> None:
    """Loopback and the bridge with the pods' gateway addresses."""
    with netlink(node) as talk:
        talk.link("set", index=1, state="up")
        talk.link("add", ifname=BRIDGE, kind="bridge", address=_BRIDGE_MAC)
        bridge = _index(talk, BRIDGE)
        talk.addr("add", index=bridge, address=str(GATEWAY4), prefixlen=POD_NET4.prefixlen)
        talk.addr("add", index=bridge, address=str(GATEWAY6), prefixlen=POD_NET6.prefixlen, flags=_NODAD)
        talk.link("set", index=bridge, state="up")


def connect_pod(node: SocketSource, pod: SocketSource, pause_pid: int, link: str, addresses: PodAddresses) -> None:
    """A veth between the bridge and the pod's eth0, both addresses, both default routes.

    `pause_pid` is the pid, as this process sees it, of a process in the pod's network namespace.
    """
    with netlink(node) as talk:
        talk.link("add", ifname=link, kind="veth", peer={"ifname": "eth0", "net_ns_pid": pause_pid})
        talk.link("set", index=_index(talk, link), master=_index(talk, BRIDGE), state="up")
    with netlink(pod) as talk:
        talk.link("set", index=1, state="up")
        eth0 = _index(talk, "eth0")
        talk.link("set", index=eth0, state="up")
        talk.addr("add", index=eth0, address=str(addresses.ipv4), prefixlen=32)
        talk.addr("add", index=eth0, address=str(addresses.ipv6), prefixlen=128, flags=_NODAD)
        for gateway, family, bits in ((GATEWAY4, socket.AF_INET, 32), (GATEWAY6, socket.AF_INET6, 128)):
            talk.route("add", family=family, dst=f"{gateway}/{bits}", oif=eth0, scope=_SCOPE_LINK)
            talk.route("add", family=family, dst="default", gateway=str(gateway), oif=eth0)


def add_loopback_address(pod: SocketSource, address: str) -> None:
    """Another address on lo; Istio puts ::6 there, IPv6 having no loopback network."""
    with netlink(pod) as talk:
        talk.addr("add", index=1, address=address, prefixlen=128, flags=_NODAD)


def link_names(where: SocketSource) -> set[str]:
    """The names of all links in a namespace."""
    with netlink(where) as talk:
        return {link.get("ifname") for link in talk.get_links()}


def hardware_addresses(where: SocketSource) -> dict[str, str]:
    """The hardware address of each link in a namespace, as `02:00:0a:f4:00:01`, by the link's name."""
    with netlink(where) as talk:
        return {link.get("ifname"): link.get("address") for link in talk.get_links()}


def features(where: SocketSource, link: str) -> str:
    """The features of a link (segmentation offloads, checksums) as ethtool(8) shows them: the wanted and the active
    bits, in hexadecimal (struct ethtool_gfeatures). Raises OSError for a link without features."""
    head = struct.pack("=II", _ETHTOOL_GFEATURES, _FEATURE_WORDS)
    answer = ctypes.create_string_buffer(head, len(head) + _FEATURE_WORDS * 16)
    request = struct.pack("16sP16x", os.fsencode(link), ctypes.addressof(answer))
    with where.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    blocks = list(struct.iter_unpack("=4I", answer.raw[len(head) :]))  # available, wanted, active, never changed
    wanted, active = ("".join(f"{block[which]:08x}" for block in reversed(blocks)) for which in (1, 2))
    return f"wanted {wanted}, active {active}"


def _index(talk: Any, name: str) -> int:
    """netdevice(7): one call of a microsecond, where pyroute2 makes two requests. Raises OSError for no such link."""
    request = struct.pack("16sI20x", os.fsencode(name), 0)
    found: int = struct.unpack_from("=I", fcntl.ioctl(talk.fileno(), _SIOCGIFINDEX, request), _MAX_IFNAME + 1)[0]
    return found
