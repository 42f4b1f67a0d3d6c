"""The kernel's notifications of new interface addresses, in many network namespaces at once (rtnetlink(7), netlink(7)).

With NETLINK_LISTEN_ALL_NSID one socket is notified for all namespaces that have an id in its own namespace, as every
pod has whose veth ends here. It keeps none of them alive. It needs CAP_NET_ADMIN or CAP_NET_BROADCAST. A namespace
without an id causes no notification; the repeated scans find its addresses.
"""

from __future__ import annotations

import errno
import socket

from tapper.namespaces import netlink
from tapper.namespaces.contents import RTM_NEWADDR, address_of
from tapper.targets.addresses import Address

_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID = 270, 8  # linux/socket.h, linux/netlink.h
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100  # linux/rtnetlink.h


class AddressEvents:
    """An open subscription; made by `subscribe`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """For polling: readable when there are notifications."""
        return self._socket.fileno()

    def addresses(self) -> set[Address] | None:
        """The addresses that interfaces were given since the last call; None where some are not known: the kernel had
        no room for a notification, or one was cut off. Raises OSError."""
        addresses: set[Address] = set()
        while True:
            try:
                for message in netlink.messages(self._socket.recv(netlink.LARGEST_DATAGRAM, socket.MSG_DONTWAIT)):
                    netlink.check(message)
                    address = address_of(message.body) if message.kind == RTM_NEWADDR else None
                    if address is not None:
                        addresses.add(address)
            except BlockingIOError:
                return addresses
            except OSError as error:
                if error.errno in (errno.ENOBUFS, errno.EBADMSG):
                    return None
                raise

    def close(self) -> None:
        self._socket.close()


def subscribe() -> AddressEvents:
    """Subscribe in the calling thread's network namespace. Raises OSError."""
    sock = netlink.connect(socket.NETLINK_ROUTE)
    try:
        sock.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
        sock.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    except OSError:
        sock.close()
        raise
    return AddressEvents(sock)
