"""The addresses that a network namespace has, asked of the kernel: an RTM_GETADDR dump (rtnetlink(7), netlink(7)).

This is what a process cannot make up: environ is its own memory, the addresses are its namespace's. Whoever may
configure that namespace (CAP_NET_ADMIN in it) can still add an address there; a pod's container usually may not.
"""

from __future__ import annotations

import socket
import struct
import sys
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from tapper.errors import TapperError, explain
from tapper.targets.addresses import Address

NLMSG_ERROR, NLMSG_DONE = 2, 3  # linux/netlink.h
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x01, 0x300, 0x10
RTM_NEWADDR, RTM_GETADDR = 20, 22  # linux/rtnetlink.h
IFA_ADDRESS, IFA_LOCAL = 1, 2  # linux/if_addr.h

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: len, type, flags, seq, pid; in the machine's byte order
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefixlen, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: len, type
_REQUEST = _HEADER.pack(_HEADER.size + _IFADDRMSG.size, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + bytes(8)
_WIDTHS = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
_LARGEST = 1 << 16  # the kernel fills at most 32 KiB at a time (NLMSG_GOODSIZE and netlink_dump)
_TRIES = 5


class Part(NamedTuple):
    """One datagram of a dump."""

    addresses: frozenset[Address]
    done: bool
    """Whether it was the last one."""
    interrupted: bool
    """Whether the addresses changed while the kernel went through them, so that some may be missing."""


def own_addresses() -> frozenset[Address]:
    """The addresses of the calling thread's network namespace that can tell it from others: neither loopback nor
    IPv6 link-local ones. Raises TapperError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
            for _ in range(_TRIES):
                addresses, interrupted = _dump(netlink)
                if not interrupted:
                    return frozenset(address for address in addresses if _tells(address))
    except OSError as error:
        raise TapperError(f"cannot read the addresses of a network namespace: {explain(error)}") from error
    except ValueError as error:
        raise TapperError(f"cannot read the addresses of a network namespace: {error}") from error
    raise TapperError("cannot read the addresses of a network namespace: they keep changing")


def _dump(netlink: socket.socket) -> tuple[set[Address], bool]:
    netlink.send(_REQUEST)
    addresses: set[Address] = set()
    interrupted = False
    while True:
        part = parse(netlink.recv(_LARGEST))
        addresses |= part.addresses
        interrupted |= part.interrupted
        if part.done:
            return addresses, interrupted


def _tells(address: Address) -> bool:
    """Whether an address says anything about whose it is: every namespace has the loopback ones."""
    return not (address.is_loopback or (isinstance(address, IPv6Address) and address.is_link_local))


def parse(datagram: bytes) -> Part:
    """Read one datagram of the answer. Raises OSError with the kernel's number, ValueError for what is no answer."""
    addresses: set[Address] = set()
    done = interrupted = False
    for kind, flags, start, stop in _messages(datagram):
        interrupted |= bool(flags & NLM_F_DUMP_INTR)
        if kind in (NLMSG_ERROR, NLMSG_DONE):
            number = -_integer(datagram, start, stop)
            if number:
                raise OSError(number, "the kernel refused to list addresses")
            done = True
        elif kind == RTM_NEWADDR:
            addresses |= _address(datagram, start, stop)
    return Part(frozenset(addresses), done, interrupted)


def _messages(datagram: bytes) -> list[tuple[int, int, int, int]]:
    """(type, flags, start, stop) of each message's payload. Messages are aligned to 4 bytes."""
    found = []
    at = 0
    while at < len(datagram):
        if len(datagram) - at < _HEADER.size:
            raise ValueError("a message of the kernel is cut off")
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= len(datagram) - at:
            raise ValueError("a message of the kernel is cut off")
        found.append((kind, flags, at + _HEADER.size, at + length))
        at += (length + 3) & ~3
    return found


def _integer(datagram: bytes, start: int, stop: int) -> int:
    return int.from_bytes(datagram[start : min(start + 4, stop)], sys.byteorder, signed=True)


def _address(datagram: bytes, start: int, stop: int) -> set[Address]:
    """The interface's own address: IFA_LOCAL where there is one, since IFA_ADDRESS is then a tunnel's far end."""
    if stop - start < _IFADDRMSG.size:
        raise ValueError("an address of the kernel is cut off")
    width = _WIDTHS.get(datagram[start])
    values: dict[int, bytes] = {}
    at = start + _IFADDRMSG.size
    while at + _ATTRIBUTE.size <= stop:
        length, kind = _ATTRIBUTE.unpack_from(datagram, at)
        if not _ATTRIBUTE.size <= length <= stop - at:
            raise ValueError("an address of the kernel is cut off")
        values[kind] = datagram[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    own = values.get(IFA_LOCAL, values.get(IFA_ADDRESS))
    return set() if own is None or len(own) != width else {ip_address(own)}
