"""The kernel's word that a process has begun another program: the proc connector (linux/cn_proc.h, netlink(7)).

It exists in the initial network namespace only; elsewhere the subscription is refused with ECONNREFUSED. It also wants
CAP_NET_ADMIN. Without it new processes are found by looking at all of them from time to time.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from tapper.discovery.subscription import Subscription

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN = 1
PROC_EVENT_EXEC = 2
_NLMSG_DONE = 3
_SO_ATTACH_FILTER = 26
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h

# struct nlmsghdr: len, type, flags, seq, pid; struct cn_msg: idx, val, seq, ack, len, flags; in the machine's order.
_HEADER = struct.Struct("=IHHIIIIIIHH")
# struct proc_event: what, cpu, timestamp; of an exec then process_pid, process_tgid.
_EVENT = struct.Struct("=IIQII")


class ExecEvents(Subscription):
    """An open subscription; made by `subscribe`."""

    def pids(self) -> set[int] | None:
        """The processes (thread groups, as the initial PID namespace numbers them) that began a program since the last
        call; None where the kernel had no room to tell of all. Raises OSError."""
        return self.drain(parse)


def subscribe() -> ExecEvents:
    """Begin to listen. Raises OSError: ConnectionRefusedError outside of the initial network namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR)
    try:
        _only_execs(sock)
        sock.bind((0, CN_IDX_PROC))
        operation = struct.pack("=I", PROC_CN_MCAST_LISTEN)
        length = _HEADER.size + len(operation)
        header = _HEADER.pack(length, _NLMSG_DONE, 0, 0, os.getpid(), CN_IDX_PROC, CN_VAL_PROC, 0, 0, len(operation), 0)
        sock.send(header + operation)
    except OSError:
        sock.close()
        raise
    return ExecEvents(sock)


def _only_execs(sock: socket.socket) -> None:
    """Have the kernel drop forks, ends and the rest. A filter loads words in network byte order, whatever they are."""
    program = (
        (_LOAD_WORD, 0, 0, _HEADER.size),
        (_JUMP_IF_EQUAL, 0, 1, socket.htonl(PROC_EVENT_EXEC)),
        (_RETURN, 0, 0, 0xFFFF_FFFF),
        (_RETURN, 0, 0, 0),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def parse(datagram: bytes) -> set[int]:
    """The thread groups that began a program, of all messages in a datagram. What is no such message is left out."""
    found = set()
    at = 0
    while at + _HEADER.size + _EVENT.size <= len(datagram):
        length, _, _, _, _, index, value, _, _, _, _ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size:
            break
        if (index, value) == (CN_IDX_PROC, CN_VAL_PROC) and length >= _HEADER.size + _EVENT.size:
            what, _, _, _, group = _EVENT.unpack_from(datagram, at + _HEADER.size)
            if what == PROC_EVENT_EXEC:
                found.add(group)
        at += (length + 3) & ~3
    return found
