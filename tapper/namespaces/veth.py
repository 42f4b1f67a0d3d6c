"""Whether a network namespace has a link into the node's: what a container runtime gives a pod, and what no process
inside a pod can make (rtnetlink(7): RTM_GETLINK, RTM_GETNSID).

A veth, ipvlan or macvlan interface names the namespace of its other end by a number (IFLA_LINK_NETNSID) that the
kernel gives to that namespace within this one.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from tapper.errors import TapperError, explain
from tapper.namespaces.addresses import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from tapper.namespaces.netlink import HEADER, messages

RTM_NEWLINK, RTM_GETLINK, RTM_NEWNSID, RTM_GETNSID = 16, 18, 88, 90  # linux/rtnetlink.h
IFLA_LINK_NETNSID = 37  # linux/if_link.h
NETNSA_NSID, NETNSA_FD = 1, 3  # linux/net_namespace.h
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_IFINFOMSG_SIZE, _RTGENMSG_SIZE = 16, 4  # the second one with its padding
_LARGEST = 1 << 16
_TYPE = 0x3FFF  # NLA_TYPE_MASK


def is_linked_to(node: str) -> bool:
    """Whether an interface of the calling thread's network namespace leads into the namespace of the file `node`.
    Raises TapperError."""
    try:
        descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
                number = _number_of(sock, descriptor)
                return number >= 0 and number in set(_linked(sock))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TapperError(f"cannot read the links of a network namespace: {explain(error)}") from error


def _number_of(sock: socket.socket, namespace: int) -> int:
    """The number of a namespace, by its descriptor, within that of the socket; negative where it has none."""
    attribute = _ATTRIBUTE.pack(8, NETNSA_FD) + struct.pack("=I", namespace)
    body = bytes(_RTGENMSG_SIZE) + attribute
    sock.send(HEADER.pack(HEADER.size + len(body), RTM_GETNSID, NLM_F_REQUEST, 1, 0) + body)
    for kind, payload in messages(sock.recv(_LARGEST)):
        if kind == NLMSG_ERROR:
            raise OSError(-struct.unpack_from("=i", payload)[0], "the kernel refused to number a namespace")
        if kind == RTM_NEWNSID:
            value = _attributes(payload[_RTGENMSG_SIZE:]).get(NETNSA_NSID, b"")
            return int(struct.unpack("=i", value)[0]) if len(value) == 4 else -1
    return -1


def _linked(sock: socket.socket) -> Iterator[int]:
    """The numbers of the namespaces to which interfaces lead."""
    request = HEADER.pack(HEADER.size + _IFINFOMSG_SIZE, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 2, 0)
    sock.send(request + bytes(_IFINFOMSG_SIZE))
    while True:
        for kind, payload in messages(sock.recv(_LARGEST)):
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", payload)[0], "the kernel refused to list links")
            value = _attributes(payload[_IFINFOMSG_SIZE:]).get(IFLA_LINK_NETNSID, b"")
            if kind == RTM_NEWLINK and len(value) == 4:
                yield int(struct.unpack("=i", value)[0])


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found
