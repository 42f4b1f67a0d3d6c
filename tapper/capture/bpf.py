"""The kernel's packet filter, assembled here (linux/filter.h, Documentation/networking/filter.rst).

It runs on packets that begin at the IP header (SOCK_DGRAM). It spares the ring what nobody wants; it is not what keeps
the scope: user space checks addresses again, exactly. So a list of addresses that does not fit the kernel's limit on
programs leads to a wider filter and not to a wider report.

It also drops one of the two copies of every loopback frame. A packet socket sees a frame on lo once on its way out and
once on its way in; anywhere else "on its way out" is half of the traffic, so only frames of loopback hardware count.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS, linux/bpf_common.h

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
_TCP = 6
# Next headers of IPv6 behind which TCP may follow: hop-by-hop (BIG TCP has one), routing, destination options.
_EXTENSIONS = (0, 43, 60)

_EVERYTHING = 0xFFFF_FFFF
_NOTHING = 0


class Instruction(NamedTuple):
    """struct sock_filter. jt and jf count instructions to skip, 0 to 255; for JMP_JA it is k, which has 32 bits."""

    code: int
    jt: int
    jf: int
    k: int


def _load(code: int, offset: int) -> Instruction:
    return Instruction(code, 0, 0, offset)


def _skip_unless(value: int, count: int) -> list[Instruction]:
    """Skip `count` instructions unless the accumulator is `value`; any count, since a conditional jump has 8 bits."""
    return [Instruction(JMP_JEQ_K, 1, 0, value), Instruction(JMP_JA, 0, 0, count)]


_ACCEPT = Instruction(RET_K, 0, 0, _EVERYTHING)
_REJECT = Instruction(RET_K, 0, 0, _NOTHING)

REJECT_ALL = (_REJECT,)
"""Stops a capture: what is in the ring stays, nothing new gets in."""


def program(addresses: Iterable[bytes] | None = None) -> tuple[Instruction, ...]:
    """TCP over IPv4 (unfragmented, or the first fragment) and IPv6, without the second copy of loopback frames.

    `addresses`, 4 or 16 bytes each in network byte order, restricts it to packets from or to one of them. Where that
    takes more than MAX_INSTRUCTIONS, and for None, it does not restrict.
    """
    if addresses is not None:
        assembled = _assemble(sorted(addresses))
        if len(assembled) <= MAX_INSTRUCTIONS:
            return assembled
    return _assemble(None)


def _assemble(addresses: list[bytes] | None) -> tuple[Instruction, ...]:
    version_4 = [
        _load(LD_B_ABS, 9),
        Instruction(JMP_JEQ_K, 1, 0, _TCP),
        _REJECT,
        _load(LD_H_ABS, 6),
        Instruction(JMP_JSET_K, 0, 1, 0x1FFF),  # a fragment's offset
        _REJECT,
        *_either(addresses, 4, (12, 16)),
    ]
    kinds = (_TCP, *_EXTENSIONS)
    version_6 = [
        _load(LD_B_ABS, 6),
        *(Instruction(JMP_JEQ_K, len(kinds) - index, 0, kind) for index, kind in enumerate(kinds)),
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
    """Accept where one of the two fields is one of the addresses of this width, else reject. None accepts all."""
    if addresses is None:
        return [_ACCEPT]
    wanted = [address for address in addresses if len(address) == width]
    code: list[Instruction] = []
    for field in fields:
        code += _one_of(wanted, field)
    return [*code, _REJECT]


def _one_of(addresses: list[bytes], field: int) -> list[Instruction]:
    """Accept where the field is one of the addresses, else go on. Addresses are compared word by word."""
    code: list[Instruction] = []
    for address in addresses:
        words = struct.unpack(f"!{len(address) // 4}I", address)
        for index, word in enumerate(words):
            if len(words) > 1 or not code:
                code.append(_load(LD_W_ABS, field + 4 * index))
            left = len(words) - 1 - index  # pairs of load and compare that are still to come, then the accept
            code.append(Instruction(JMP_JEQ_K, 0, left * 2 + 1, word))
        code.append(_ACCEPT)
    return code


def pack(instructions: Iterable[Instruction]) -> bytes:
    """An array of struct sock_filter, in the machine's byte order."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
