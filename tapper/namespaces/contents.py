"""What is inside a network namespace, asked of the kernel by netlink(7): its addresses, TCP connections and links.

A process cannot make these up: its environ is its own memory, the addresses are its namespace's. A process with
CAP_NET_ADMIN in that namespace can still add an address there; a pod's container usually lacks it.

Numbers are in the machine's byte order; ports and addresses are in network byte order.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from ipaddress import IPv6Address, ip_address
from typing import Final

from tapper.namespaces import netlink
from tapper.targets.addresses import Address

RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_GETNSID = 18, 20, 22, 90  # linux/rtnetlink.h
IFA_ADDRESS, IFA_LOCAL = 1, 2  # linux/if_addr.h
IFLA_LINK_NETNSID = 37  # linux/if_link.h
NETNSA_NSID, NETNSA_FD = 1, 3  # linux/net_namespace.h

_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_WIDTHS = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
_IFINFOMSG_SIZE, _RTGENMSG_SIZE = 16, 4  # of the kernel's structures, the second one padded
_NO_ID = -1  # NETNSA_NSID_NOT_ASSIGNED

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST = struct.Struct("=BBxxI48x")  # struct inet_diag_req_v2: family, protocol, extensions, states, a socket's id
_MESSAGE_SIZE: Final = 72  # struct inet_diag_msg
_PORTS_AT, _SOURCE_AT, _DESTINATION_AT = 4, 8, 24  # in it: struct inet_diag_sockid begins at 4
# Of enum tcp_states all but TIME_WAIT, CLOSE and LISTEN: in these a connection is over or has not begun.
_STATES: Final = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
_MAPPED: Final = bytes(10) + b"\xff\xff"


def own_addresses() -> frozenset[Address]:
    """The addresses of the calling thread's network namespace, without loopback and IPv6 link-local addresses: these do
    not distinguish namespaces. Raises TapperError."""
    with netlink.asking("read the addresses", socket.NETLINK_ROUTE) as sock:
        addresses = [address_of(body) for body in netlink.dump(sock, RTM_GETADDR, bytes(_IFADDRMSG.size))]
    return frozenset(address for address in addresses if address is not None and _distinguishes(address))


def address_of(body: bytes) -> Address | None:
    """The address in the body of an RTM_NEWADDR message; None for families other than IPv4 and IPv6.

    IFA_LOCAL is the interface's own address; without it, IFA_ADDRESS is. With both, IFA_ADDRESS is the far end of a
    tunnel. Raises OSError with EBADMSG where the body is cut off.
    """
    netlink.require(len(body) >= _IFADDRMSG.size)
    values = netlink.attributes(body[_IFADDRMSG.size :])
    own = values.get(IFA_LOCAL, values.get(IFA_ADDRESS))
    return None if own is None or len(own) != _WIDTHS.get(body[0]) else ip_address(own)


def _distinguishes(address: Address) -> bool:
    return not (address.is_loopback or (isinstance(address, IPv6Address) and address.is_link_local))


def tcp_connections() -> frozenset[bytes]:
    """The open TCP connections of the calling thread's network namespace (sock_diag(7)), each by the key of the packets
    that its socket sends (`tapper.streams.packet.Segment`). Raises TapperError, also for more than
    `netlink.MOST_MESSAGES` connections of a family."""
    keys: set[bytes] = set()
    with netlink.asking("list the TCP connections", _NETLINK_SOCK_DIAG) as sock:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, _STATES)
            keys.update(map(_key, netlink.dump(sock, _SOCK_DIAG_BY_FAMILY, request)))
    return frozenset(keys)


def _key(message: bytes) -> bytes:
    netlink.require(len(message) >= _MESSAGE_SIZE)
    ports = message[_PORTS_AT:_SOURCE_AT]
    source, destination = message[_SOURCE_AT:_DESTINATION_AT], message[_DESTINATION_AT : _DESTINATION_AT + 16]
    if message[0] == socket.AF_INET:
        return source[:4] + destination[:4] + ports
    if source.startswith(_MAPPED) and destination.startswith(_MAPPED):  # an IPv6 socket that speaks IPv4
        return source[12:] + destination[12:] + ports
    return source + destination + ports


def is_linked_to(node: str) -> bool:
    """Whether an interface of the calling thread's network namespace leads into the namespace of the file `node`.
    Raises TapperError.

    A container runtime gives a pod such an interface; a process inside the pod cannot make one. A veth, ipvlan or
    macvlan interface refers to the namespace of its other end by an id (IFLA_LINK_NETNSID), which the kernel assigns
    within the namespace of the interface (RTM_GETNSID).
    """
    with netlink.asking("read the links", socket.NETLINK_ROUTE) as sock:
        descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            question = netlink.attribute(NETNSA_FD, descriptor.to_bytes(4, sys.byteorder))
            answer = netlink.ask(sock, RTM_GETNSID, bytes(_RTGENMSG_SIZE) + question)
        finally:
            os.close(descriptor)
        number = _integer(answer[_RTGENMSG_SIZE:], NETNSA_NSID)
        links = netlink.dump(sock, RTM_GETLINK, bytes(_IFINFOMSG_SIZE)) if number != _NO_ID else []
        return any(_integer(link[_IFINFOMSG_SIZE:], IFLA_LINK_NETNSID) == number for link in links)


def _integer(data: bytes, attribute: int) -> int:
    """The value of an attribute that is an int; _NO_ID where it is missing."""
    value = netlink.attributes(data).get(attribute)
    return _NO_ID if value is None else int.from_bytes(value, sys.byteorder, signed=True)
