"""Malformed bytes and packets that a tapper has to survive."""

from __future__ import annotations

import random
from collections.abc import Iterator

from harness.conformance import truth
from harness.mesh import replay
from harness.mesh.http2 import PREFACE
from harness.sandbox.checksums import with_checksums
from harness.sandbox.frames import ETHERNET_HEADER
from harness.sandbox.pod import Pod

ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
_SEED = 7  # the same corpus on every run: a verdict must not depend on luck
_MEBIBYTE = 1 << 20


def requests() -> Iterator[bytes]:
    """The malformed data of a client, one piece after the other."""
    start = b"GET / HTTP/1.1\r\nHost: x\r\n"
    yield b"GET " + b"a" * (2 * _MEBIBYTE)  # a head without an end
    yield start + b"X: " + b"b" * (2 * _MEBIBYTE)
    yield start + b"".join(b"X-%d: 1\r\n" % number for number in range(100_000)) + b"\r\n"
    yield b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n" + b"c" * _MEBIBYTE
    yield b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"
    yield b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
    yield b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"
    yield b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + b"d" * _MEBIBYTE
    yield b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"e" * (2 * _MEBIBYTE)
    yield b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"
    yield b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked, chunked\r\n\r\n0\r\n\r\n"
    yield b"\x00\xff GET / HTTP/1.1\r\n\r\n"
    yield b"GET /\xff\xfe\x00\x1b]0;title\x07 HTTP/9.9\r\n: nameless\r\nno colon\r\n folded\r\n\r\n"
    yield b"\r\n" * _MEBIBYTE
    yield PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff" * 9 + b"f" * _MEBIBYTE
    yield PREFACE + b"\x00\x00\x05\x01\x04\x00\x00\x00\x01" + b"\x3f\xe1\xff\xff\x7f"  # a table of gigabytes
    yield (PREFACE + b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82" + b"\x00\x00\x01\x09\x00\x00\x00\x00\x01\x84" * 50_000)
    yield b"\x16\x03\x01\xff\xff\x01\x00\xff\xff" + b"g" * 70_000  # a ClientHello that lies about its length
    chance = random.Random(_SEED)
    for size in (1, 17, 1500, 65_536, _MEBIBYTE):
        yield chance.randbytes(size)


def frames(pod: Pod) -> list[bytes]:
    """Packets on a pod's `lo` that TCP would not accept, or that contradict each other."""
    nonce = truth.new_nonce()
    whole = replay.conversation(
        replay.inbound(pod, 8080, 41_001), [(truth.request(nonce) * 20, truth.response(nonce) * 20)], mss=64
    )
    chance = random.Random(_SEED)
    shuffled = whole[:]
    chance.shuffle(shuffled)
    cut = [frame[: chance.randrange(ETHERNET_HEADER, len(frame))] for frame in whole]
    flipped = [_flip(frame, chance) for frame in whole for _ in range(5)]
    # a tapper that checks checksums leaves out a frame with changed bytes, unless the checksums fit again
    flipped[1::2] = [frame[:ETHERNET_HEADER] + with_checksums(frame[ETHERNET_HEADER:]) for frame in flipped[1::2]]
    return [*shuffled, *cut, *flipped, *(whole * 3)]


def _flip(frame: bytes, chance: random.Random) -> bytes:
    """The frame with a few bytes after the Ethernet header replaced."""
    changed = bytearray(frame)
    for _ in range(chance.randrange(1, 6)):
        changed[chance.randrange(ETHERNET_HEADER, len(changed))] = chance.randrange(256)
    return bytes(changed)
