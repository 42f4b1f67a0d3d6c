"""The kernel's word that an interface was given an address, in whatever network namespace (rtnetlink(7), netlink(7)).

With NETLINK_LISTEN_ALL_NSID one socket hears of all namespaces to which this one has an id, and it has one to every pod
whose veth ends here. Unlike a socket in each of them it keeps no namespace alive. It wants CAP_NET_ADMIN (or
CAP_NET_BROADCAST); of namespaces without an id nothing is heard, so looking from time to time goes on.
"""

from __future__ import annotations

import socket

from tapper.discovery.subscription import Subscription
from tapper.namespaces.addresses import parse
from tapper.targets.addresses import Address

_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID = 270, 8  # linux/socket.h, linux/netlink.h
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100  # linux/rtnetlink.h


class AddressEvents(Subscription):
    """An open subscription; made by `subscribe`."""

    def addresses(self) -> set[Address] | None:
        """The addresses that were given to interfaces since the last call; None where not all are known. Raises
        OSError."""
        return self.drain(lambda datagram: set(parse(datagram).addresses))


def subscribe() -> AddressEvents:
    """Begin to listen, from the calling thread's network namespace. Raises OSError."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        sock.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
        sock.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    except OSError:
        sock.close()
        raise
    return AddressEvents(sock)
