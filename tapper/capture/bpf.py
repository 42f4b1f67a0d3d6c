"""The kernel's packet filter: assembled here, and attached to a socket (linux/filter.h,
Documentation/networking/filter.rst).

The filter works on packets that begin at the IP header (SOCK_DGRAM). It keeps unwanted packets out of the ring, and it
does not decide what is reported: the reader checks the addresses again, exactly. So a list of addresses that is too
long for the kernel leads to a wider filter, and not to a wider report.

The filter also drops one of the two copies of every loopback frame. A packet socket sees a frame on lo twice: on its
way out and on its way in. On other interfaces the outgoing frames are half of the traffic, so the filter drops outgoing
frames of loopback hardware only.

On the node's interfaces the filter also looks into the tunnels of overlay networks: VXLAN, GENEVE, GRE and IP in IP,
one tunnel deep. It compares the addresses inside, so that other pods' traffic between nodes stays out of the ring.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from tapper.streams.encapsulation import (
    ETH_P_IP,
    ETH_P_IPV6,
    GENEVE_PORT,
    GRE,
    IPIP,
    IPV6_IN_IP,
    UDP,
    VLAN_TAGS,
    VXLAN_PORTS,
)
from tapper.streams.packet import EXTENSIONS, TCP

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS, linux/bpf_common.h
SO_ATTACH_FILTER = 26  # asm-generic/socket.h

_FEWEST_FOR_ADDRESS = 2
"""Instructions: one comparison with each of the two addresses of an IPv4 packet."""

# Opcodes: class | size or operation | mode or source (linux/bpf_common.h).
# A is the accumulator, X the index register, M the memory of 16 words.
LD_W_ABS, LD_H_ABS, LD_B_ABS = 0x20, 0x28, 0x30
LD_W_IND, LD_H_IND, LD_B_IND = 0x40, 0x48, 0x50  # from X + k on
LD_MEM, LDX_MEM, LDX_IMM, LDX_HEADER = 0x60, 0x61, 0x01, 0xB1  # the last one: X = size of the IPv4 header at k
ST, STX, TAX, TXA = 0x02, 0x03, 0x07, 0x87
ADD_K, ADD_X, AND_K, LSH_K, RSH_K = 0x04, 0x0C, 0x54, 0x64, 0x74
JMP_JA, JMP_JEQ_K, JMP_JSET_K = 0x05, 0x15, 0x45
RET_K = 0x06

# Ancillary loads: what the kernel knows about a packet besides its bytes (linux/filter.h).
SKF_AD_OFF = 0xFFFF_F000  # -0x1000
SKF_AD_PROTOCOL, SKF_AD_PKTTYPE, SKF_AD_HATYPE = 0, 4, 28

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


def program(addresses: Iterable[bytes] | None = None, *, tunnels: bool = False) -> tuple[Instruction, ...]:
    """TCP over IPv4 and IPv6, without the second copy of loopback frames. `tunnels` adds the tunnels that have TCP in
    them.

    `addresses`, 4 or 16 bytes each in network byte order, restrict it to packets from or to one of them. None, or more
    addresses than MAX_INSTRUCTIONS allow, do not restrict it.
    """
    wanted = None if addresses is None else list(addresses)
    if wanted is not None and len(wanted) * _FEWEST_FOR_ADDRESS <= MAX_INSTRUCTIONS:
        assembled = _assemble(sorted(wanted), tunnels)
        if len(assembled) <= MAX_INSTRUCTIONS:
            return assembled
    return _assemble(None, tunnels)


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
        _attach_exactly(sock, program(None, tunnels=True))


def _attach_exactly(sock: socket.socket, instructions: tuple[Instruction, ...]) -> None:
    code = ctypes.create_string_buffer(pack(instructions))
    sock_fprog = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, sock_fprog)


class _Label(str):
    """A place in a program, that jumps name."""

    __slots__ = ()


class _Jump(str):
    """A jump to a label further on."""

    __slots__ = ()


_Lines: TypeAlias = "list[Instruction | _Label | _Jump]"

_FOUR, _SIX = _Label("match the addresses of IPv4"), _Label("match the addresses of IPv6")
_TUNNEL, _REJECTED = _Label("tunnel"), _Label("reject")
_IN_X = 16  # bytes of the UDP and the VXLAN header, or of the UDP and the first part of the GENEVE header


def _assemble(addresses: list[bytes] | None, tunnels: bool) -> tuple[Instruction, ...]:
    """The program. X is where the IP header of the TCP packet begins, when the addresses are compared."""
    not_four, plain_four, plain_six = _Label("not IPv4"), _Label("TCP over IPv4"), _Label("TCP over IPv6")
    # Behind the headers of a tunnel's packet. Later fragments do not have them.
    tunnel_six: _Lines = [_op(LDX_IMM, 40), _Jump(_TUNNEL)]
    tunnel_four: _Lines = [_op(LD_H_ABS, 6), Instruction(JMP_JSET_K, 0, 1, 0x1FFF), _REJECT]
    tunnel_four += [_op(LD_B_ABS, 9), _op(LDX_HEADER, 0), _Jump(_TUNNEL)]
    return _resolve(
        [
            # 1. The second copy of a loopback frame.
            _op(LD_W_ABS, SKF_AD_OFF + SKF_AD_HATYPE),
            Instruction(JMP_JEQ_K, 0, 3, ARPHRD_LOOPBACK),
            _op(LD_W_ABS, SKF_AD_OFF + SKF_AD_PKTTYPE),
            Instruction(JMP_JEQ_K, 0, 1, PACKET_OUTGOING),
            _REJECT,
            # 2. IPv4. All fragments pass: only the first one has ports.
            _op(LD_W_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
            *_unless(ETH_P_IP, not_four),
            _op(LD_B_ABS, 9),
            *_when((TCP,), plain_four),
            *(tunnel_four if tunnels else [_REJECT]),
            plain_four,
            _op(LDX_IMM, 0),
            _Jump(_FOUR),
            # 3. IPv6.
            not_four,
            *_unless(ETH_P_IPV6, _REJECTED),
            _op(LD_B_ABS, 6),
            *_when(_NEXT_HEADERS, plain_six),
            *(tunnel_six if tunnels else [_REJECT]),
            plain_six,
            _op(LDX_IMM, 0),
            _Jump(_SIX),
            # 4. Tunnels, and the addresses.
            *(_tunnel() if tunnels else []),
            _FOUR,
            *_either(addresses, 4, (12, 16)),
            _SIX,
            *_either(addresses, 16, (8, 24)),
            _REJECTED,
            _REJECT,
        ]
    )


_FRAGMENT_HEADER = 44
_NEXT_HEADERS = (TCP, *sorted(EXTENSIONS | {_FRAGMENT_HEADER}))
"""TCP may follow on these extension headers; BIG TCP has a hop-by-hop one."""


def _tunnel() -> _Lines:
    """A is the protocol of an IP packet, X where its payload begins. At the end X is where the IP header inside
    begins."""
    gre, vxlan, gpe, kind = _Label("gre"), _Label("vxlan"), _Label("vxlan-gpe"), _Label("ethertype")
    frame, tagged, untagged, inner, inner_four = map(_Label, ("frame", "tagged", "untagged", "inner", "inner IPv4"))
    return [
        _TUNNEL,
        *_when((IPIP, IPV6_IN_IP), inner),
        *_when((GRE,), gre),
        *_unless(UDP, _REJECTED),
        _op(LD_H_IND, 2),
        *_when(tuple(sorted(VXLAN_PORTS)), vxlan),
        *_unless(GENEVE_PORT, _REJECTED),
        # GENEVE: the length of its options in words, and an EtherType.
        *(_op(LD_B_IND, 8), _op(AND_K, 0x3F), _op(LSH_K, 2), _op(ADD_X, 0), _op(ADD_K, _IN_X), _op(ST, 0)),
        *(_op(LD_H_IND, 10), _op(LDX_MEM, 0), _Jump(kind)),
        # VXLAN: an Ethernet frame, or what the next protocol says.
        vxlan,
        *(_op(LD_B_IND, 8), Instruction(JMP_JSET_K, 0, 1, 0x04), _Jump(gpe)),
        *(_op(TXA, 0), _op(ADD_K, _IN_X), _op(TAX, 0), _Jump(frame)),
        gpe,
        *(_op(LD_B_IND, 11), _op(ST, 0), _op(TXA, 0), _op(ADD_K, _IN_X), _op(TAX, 0), _op(LD_MEM, 0)),
        *_when((3,), frame),
        _Jump(inner),
        # GRE: four bytes, and four more for each of checksum, key and sequence number; an EtherType.
        gre,
        *(_op(STX, 2), _op(LD_H_IND, 0), _op(AND_K, 0x8000), _op(RSH_K, 13), _op(ST, 0)),
        *(_op(LD_H_IND, 0), _op(AND_K, 0x2000), _op(RSH_K, 11), _op(ST, 1)),
        *(_op(LD_H_IND, 0), _op(AND_K, 0x1000), _op(RSH_K, 10)),
        *(_op(LDX_MEM, 0), _op(ADD_X, 0), _op(LDX_MEM, 1), _op(ADD_X, 0), _op(LDX_MEM, 2), _op(ADD_X, 0)),
        *(_op(ADD_K, 4), _op(ST, 0), _op(LD_H_IND, 2), _op(LDX_MEM, 0)),
        kind,
        *_when((ETH_P_IP, ETH_P_IPV6), inner),
        *_unless(0x6558, _REJECTED),
        # An Ethernet frame, with a VLAN tag or without.
        frame,
        _op(LD_H_IND, 12),
        *_when((ETH_P_IP, ETH_P_IPV6), untagged),
        *_when(tuple(sorted(VLAN_TAGS)), tagged),
        _REJECT,
        tagged,
        *(_op(TXA, 0), _op(ADD_K, 18), _op(TAX, 0), _Jump(inner)),
        untagged,
        *(_op(TXA, 0), _op(ADD_K, 14), _op(TAX, 0)),
        # The IP header inside.
        inner,
        *(_op(LD_B_IND, 0), _op(RSH_K, 4)),
        *_when((4,), inner_four),
        *_unless(6, _REJECTED),
        _op(LD_B_IND, 6),
        *_when(_NEXT_HEADERS, _SIX),
        _REJECT,
        inner_four,
        _op(LD_B_IND, 9),
        *_unless(TCP, _REJECTED),
    ]


def _op(code: int, k: int) -> Instruction:
    return Instruction(code, 0, 0, k)


def _when(values: tuple[int, ...], label: _Label) -> _Lines:
    """Jump if A is one of the values."""
    last = len(values) - 1
    tests = [Instruction(JMP_JEQ_K, last - index, int(index == last), value) for index, value in enumerate(values)]
    return [*tests, _Jump(label)]


def _unless(value: int, label: _Label) -> _Lines:
    """Jump if A is not the value. A conditional jump alone has only 8 bits for the distance."""
    return [Instruction(JMP_JEQ_K, 1, 0, value), _Jump(label)]


def _resolve(lines: _Lines) -> tuple[Instruction, ...]:
    """The instructions, with distances in place of labels."""
    places: dict[str, int] = {}
    code: list[Instruction | _Jump] = []
    for line in lines:
        if isinstance(line, _Label):
            places[line] = len(code)
        else:
            code.append(line)
    return tuple(
        line if isinstance(line, Instruction) else Instruction(JMP_JA, 0, 0, places[line] - at - 1)
        for at, line in enumerate(code)
    )


def _either(addresses: list[bytes] | None, width: int, fields: tuple[int, int]) -> list[Instruction]:
    """Accept a packet where one of the two fields is one of the addresses of this width, else reject it. None accepts
    every packet."""
    if addresses is None:
        return [_ACCEPT]
    wanted = [address for address in addresses if len(address) == width]
    compare = _one_word if width == 4 else _one_of
    return [instruction for field in fields for instruction in compare(wanted, field)] + [_REJECT]


def _one_word(addresses: list[bytes], field: int) -> list[Instruction]:
    """Accept a packet where the field is one of the addresses of IPv4, else go on."""
    code = [_op(LD_W_IND, field)]
    for start in range(0, len(addresses), _AT_ONCE):
        portion = addresses[start : start + _AT_ONCE]
        code += [
            Instruction(JMP_JEQ_K, len(portion) - index, 0, int.from_bytes(address, "big"))
            for index, address in enumerate(portion)
        ]
        code += [_op(JMP_JA, 1), _ACCEPT]
    return code


_AT_ONCE = 250
"""Comparisons that share one instruction to accept, which is at most 255 instructions further on."""


def _one_of(addresses: list[bytes], field: int) -> list[Instruction]:
    """Accept a packet where the field is one of the addresses of IPv6, else go on. They are compared word by word."""
    code: list[Instruction] = []
    for address in addresses:
        words = struct.unpack("!4I", address)
        for index, word in enumerate(words):
            left = len(words) - 1 - index  # pairs of load and compare that follow, before the accept
            code += [_op(LD_W_IND, field + 4 * index), Instruction(JMP_JEQ_K, 0, left * 2 + 1, word)]
        code.append(_ACCEPT)
    return code
