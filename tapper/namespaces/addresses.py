"""The addresses of a network namespace, asked of the kernel (rtnetlink(7), RTM_GETADDR).

A process cannot make these up: its environ is its own memory, the addresses are its namespace's. A process with
CAP_NET_ADMIN in that namespace can still add an address there; a pod's container usually lacks it.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv6Address, ip_address

from tapper.errors import TapperError, explain
from tapper.namespaces import netlink
from tapper.targets.addresses import Address

RTM_NEWADDR, RTM_GETADDR = 20, 22  # linux/rtnetlink.h
IFA_ADDRESS, IFA_LOCAL = 1, 2  # linux/if_addr.h

_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_WIDTHS = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}


def own_addresses() -> frozenset[Address]:
    """The addresses of the calling thread's network namespace, without loopback and IPv6 link-local addresses: these do
    not distinguish namespaces. Raises TapperError."""
    try:
        with netlink.connect(socket.NETLINK_ROUTE) as sock:
            addresses = [address_of(body) for body in netlink.dump(sock, RTM_GETADDR, bytes(_IFADDRMSG.size))]
    except OSError as error:
        raise TapperError(f"cannot read the addresses of a network namespace: {explain(error)}") from error
    return frozenset(address for address in addresses if address is not None and _distinguishes(address))


def address_of(body: bytes) -> Address | None:
    """The address in the body of an RTM_NEWADDR message; None for families other than IPv4 and IPv6.

    IFA_LOCAL is the interface's own address; without it, IFA_ADDRESS is. With both, IFA_ADDRESS is the far end of a
    tunnel. Raises OSError with EBADMSG where the body is cut off.
    """
    if len(body) < _IFADDRMSG.size:
        raise OSError(errno.EBADMSG, "a message of the kernel is cut off")
    values = netlink.attributes(body[_IFADDRMSG.size :])
    own = values.get(IFA_LOCAL, values.get(IFA_ADDRESS))
    return None if own is None or len(own) != _WIDTHS.get(body[0]) else ip_address(own)


def _distinguishes(address: Address) -> bool:
    return not (address.is_loopback or (isinstance(address, IPv6Address) and address.is_link_local))
