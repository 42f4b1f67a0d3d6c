"""The kernel's packet filter: assembled here, and attached to a socket (linux/filter.h,
Documentation/networking/filter.rst).

The filter works on packets that begin at the IP header (SOCK_DGRAM). It keeps unwanted packets out of the ring, and it
does not decide what is reported: the reader checks the addresses again, exactly. So a list of addresses that is too
long for the kernel leads to a wider filter, and not to a wider report.

The filter also drops one of the two copies of every loopback frame. A packet socket sees a frame on lo twice: on its
way out and on its way in. On other interfaces the outgoing frames are half of the traffic, so the filter drops outgoing
frames of loopback hardware only.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from tapper.streams.packet import EXTENSIONS, TCP

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS, linux/bpf_common.h
SO_ATTACH_FILTER = 26  # asm-generic/socket.h

_FEWEST_FOR_ADDRESS = 4
"""Instructions: a comparison and an acceptance for each of a packet's two addresses, of IPv4."""

# Opcodes: class | size or operation | mode or source (linux/bpf_common.h).
LD_W_ABS, LD_H_ABS, LD_B_ABS = 0x20, 0x28, 0x30
JMP_JA, JMP_JEQ_K, JMP_JSET_K = 0x05, 0x15, 0x45
RET_K = 0x06

# Ancillary loads: what the kernel knows about a packet besides its bytes (linux/filter.h).
SKF_AD_OFF = 0xFFFF_F000  # -0x1000
SKF_AD_PROTOCOL, SKF_AD_PKTTYPE, SKF_AD_HATYPE = 0, 4, 28

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
ARPHRD_LOOPBACK = 772
PACKET_OUTGOING = 4


class Instruction(NamedTuple):
    """struct sock_filter. jt and jf count instructions to skip, 0 to 255. JMP_JA skips k instructions, 32 bits."""

    code: int
    jt: int
    jf: int
    k: int


_ACCEPT = Instruction(RET_K, 0, 0, 0xFFFF_FFFF)
_REJECT = Instruction(RET_K, 0, 0, 0)

REJECT_ALL = (_REJECT,)
"""Stops a capture: the packets in the ring stay, and no new packet gets in."""


def program(addresses: Iterable[bytes] | None = None) -> tuple[Instruction, ...]:
    """TCP over IPv4 (unfragmented, or the first fragment) and IPv6, without the second copy of loopback frames.

    `addresses`, 4 or 16 bytes each in network byte order, restrict it to packets from or to one of them. None, or more
    addresses than MAX_INSTRUCTIONS allow, do not restrict it.
    """
    wanted = None if addresses is None else list(addresses)
    if wanted is not None and len(wanted) * _FEWEST_FOR_ADDRESS <= MAX_INSTRUCTIONS:
        assembled = _assemble(sorted(wanted))
        if len(assembled) <= MAX_INSTRUCTIONS:
            return assembled
    return _assemble(None)


def pack(instructions: Iterable[Instruction]) -> bytes:
    """An array of struct sock_filter, in the machine's byte order."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def attach(sock: socket.socket, instructions: tuple[Instruction, ...]) -> None:
    """Make this the socket's filter in place of the one before (SO_ATTACH_FILTER, socket(7)). Raises OSError.

    A long program may exceed net.core.optmem_max. Then the kernel answers ENOMEM, and the socket gets the filter for
    all of TCP.
    """
    try:
        _attach_exactly(sock, instructions)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        _attach_exactly(sock, program(None))


def _attach_exactly(sock: socket.socket, instructions: tuple[Instruction, ...]) -> None:
    code = ctypes.create_string_buffer(pack(instructions))
    sock_fprog = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, sock_fprog)


def _load(code: int, offset: int) -> Instruction:
    return Instruction(code, 0, 0, offset)


def _skip_unless(value: int, count: int) -> list[Instruction]:
    """Skip `count` instructions unless the accumulator is `value`. Two instructions, because a conditional jump has
    only 8 bits for the count."""
    return [Instruction(JMP_JEQ_K, 1, 0, value), Instruction(JMP_JA, 0, 0, count)]


def _assemble(addresses: list[bytes] | None) -> tuple[Instruction, ...]:
    version_4 = [
        _load(LD_B_ABS, 9),
        Instruction(JMP_JEQ_K, 1, 0, TCP),
        _REJECT,
        _load(LD_H_ABS, 6),
        Instruction(JMP_JSET_K, 0, 1, 0x1FFF),  # a fragment's offset
        _REJECT,
        *_either(addresses, 4, (12, 16)),
    ]
    headers = (TCP, *sorted(EXTENSIONS))  # TCP may follow on these extension headers; BIG TCP has a hop-by-hop one
    version_6 = [
        _load(LD_B_ABS, 6),
        *(Instruction(JMP_JEQ_K, len(headers) - index, 0, header) for index, header in enumerate(headers)),
        _REJECT,
        *_either(addresses, 16, (8, 24)),
    ]
    return (
        _load(LD_W_ABS, SKF_AD_OFF + SKF_AD_HATYPE),
        Instruction(JMP_JEQ_K, 0, 3, ARPHRD_LOOPBACK),
        _load(LD_W_ABS, SKF_AD_OFF + SKF_AD_PKTTYPE),
        Instruction(JMP_JEQ_K, 0, 1, PACKET_OUTGOING),
        _REJECT,
        _load(LD_W_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
        *_skip_unless(ETH_P_IP, len(version_4)),
        *version_4,
        *_skip_unless(ETH_P_IPV6, len(version_6)),
        *version_6,
        _REJECT,
    )


def _either(addresses: list[bytes] | None, width: int, fields: tuple[int, int]) -> list[Instruction]:
    """Accept a packet where one of the two fields is one of the addresses of this width, else reject it. None accepts
    every packet."""
    if addresses is None:
        return [_ACCEPT]
    wanted = [address for address in addresses if len(address) == width]
    return [instruction for field in fields for instruction in _one_of(wanted, field)] + [_REJECT]


def _one_of(addresses: list[bytes], field: int) -> list[Instruction]:
    """Accept a packet where the field is one of the addresses, else go on. Addresses are compared word by word."""
    code: list[Instruction] = []
    for address in addresses:
        words = struct.unpack(f"!{len(address) // 4}I", address)
        for index, word in enumerate(words):
            if len(words) > 1 or not code:
                code.append(_load(LD_W_ABS, field + 4 * index))
            left = len(words) - 1 - index  # pairs of load and compare that follow, before the accept
            code.append(Instruction(JMP_JEQ_K, 0, left * 2 + 1, word))
        code.append(_ACCEPT)
    return code
