"""The kernel's word that a process has begun another program: the proc connector (linux/cn_proc.h, netlink(7)).

It exists in the initial network namespace only; elsewhere the subscription is refused with ECONNREFUSED. It also wants
CAP_NET_ADMIN. In a PID namespace below the initial one the kernel accepts the subscription and then tells nothing
(drivers/connector/cn_proc.c), so `subscribe` starts a process and sees whether it is told. Without these events new
processes are found by looking at all of them from time to time.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import sys

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
    """Begin to listen, and prove by a process of our own that the kernel tells.

    Raises OSError: ConnectionRefusedError outside of the initial network namespace, ENODATA where the kernel accepts
    the subscription and does not tell, and whatever kept the process from being started.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR)
    try:
        _only_execs(sock)
        sock.bind((0, CN_IDX_PROC))
        operation = struct.pack("=I", PROC_CN_MCAST_LISTEN)
        length = _HEADER.size + len(operation)
        header = _HEADER.pack(length, _NLMSG_DONE, 0, 0, os.getpid(), CN_IDX_PROC, CN_VAL_PROC, 0, 0, len(operation), 0)
        sock.send(header + operation)
        events = ExecEvents(sock)
        pid = _begin_a_program()
        told = events.pids()
        if told is not None and pid not in told:  # None: it tells of more than there was room for
            raise OSError(errno.ENODATA, "the kernel did not tell of a process that was started to try it")
    except OSError:
        sock.close()
        raise
    return events


def _begin_a_program() -> int:
    """Start this interpreter, wait for its end, and return its process id. Raises OSError.

    The kernel puts the event of an exec into the socket before the program runs: after its end the event is there.
    """
    actions = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)]
    program = sys.executable or "/proc/self/exe"
    # what the tapper ignores or blocks is no affair of another program
    defaults = [signal.SIGINT, signal.SIGTERM]
    pid = os.posix_spawn(program, [program, "-V"], {}, file_actions=actions, setsigmask=(), setsigdef=defaults)
    os.waitpid(pid, 0)
    return pid


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
