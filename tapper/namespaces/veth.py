"""Whether an interface links a network namespace to the node's (rtnetlink(7), RTM_GETLINK and RTM_GETNSID).

A container runtime gives a pod such an interface; a process inside the pod cannot make one. A veth, ipvlan or macvlan
interface refers to the namespace of its other end by an id (IFLA_LINK_NETNSID), which the kernel assigns within the
namespace of the interface.
"""

from __future__ import annotations

import os
import socket
import sys

from tapper.errors import TapperError, explain
from tapper.namespaces import netlink

RTM_GETLINK, RTM_GETNSID = 18, 90  # linux/rtnetlink.h
IFLA_LINK_NETNSID = 37  # linux/if_link.h
NETNSA_NSID, NETNSA_FD = 1, 3  # linux/net_namespace.h
_IFINFOMSG_SIZE, _RTGENMSG_SIZE = 16, 4  # of the kernel's structures, the second one padded
_NO_ID = -1  # NETNSA_NSID_NOT_ASSIGNED


def is_linked_to(node: str) -> bool:
    """Whether an interface of the calling thread's network namespace leads into the namespace of the file `node`.
    Raises TapperError."""
    try:
        descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netlink.connect(socket.NETLINK_ROUTE) as sock:
                question = netlink.attribute(NETNSA_FD, descriptor.to_bytes(4, sys.byteorder))
                answer = netlink.ask(sock, RTM_GETNSID, bytes(_RTGENMSG_SIZE) + question)
                number = _integer(answer[_RTGENMSG_SIZE:], NETNSA_NSID)
                links = netlink.dump(sock, RTM_GETLINK, bytes(_IFINFOMSG_SIZE)) if number != _NO_ID else []
                return any(_integer(link[_IFINFOMSG_SIZE:], IFLA_LINK_NETNSID) == number for link in links)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TapperError(f"cannot read the links of a network namespace: {explain(error)}") from error


def _integer(data: bytes, attribute: int) -> int:
    """The value of an attribute that is an int; _NO_ID where it is missing."""
    value = netlink.attributes(data).get(attribute)
    return _NO_ID if value is None else int.from_bytes(value, sys.byteorder, signed=True)
