"""A breakpoint in a library is seen."""

from __future__ import annotations

from pathlib import Path

from harness.conformance.audit import code
from harness.mesh.own_tls.ends import TlsProgram
from harness.sandbox.node import Node


def test_another_byte_is_seen_and_told() -> None:
    with Node() as node, TlsProgram(node.pod("pod"), own_library=True) as program:
        before = code.of_library(program.process.host_pid)
        assert sum(map(len, before.values())) > 100_000
        start, old = next(iter(before.items()))
        with Path(f"/proc/{program.process.host_pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start + len(old) - 1)
            memory.write(b"\xcc")
        after = code.of_library(program.process.host_pid)
    assert after != before
    assert code.differences(before, after).startswith("1 other bytes: 0xcc in place of 0x00 at 0x")


def test_the_same_and_other_mappings_have_words() -> None:
    assert code.differences({1: b"a"}, {1: b"a"}) == "no difference any longer"
    assert code.differences({1: b"a"}, {}) == "other mappings of the library"
