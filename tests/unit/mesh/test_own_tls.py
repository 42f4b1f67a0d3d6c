"""TLS connections between processes in pods: every byte, cut and retry is the test's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.conformance.audit import code
from harness.errors import HarnessError
from harness.mesh.own_tls.ends import PORT, TlsProgram, connect
from harness.mesh.own_tls.unreadable import UnreadableProgram
from harness.sandbox.node import Node


@pytest.fixture
def programs() -> Iterator[tuple[TlsProgram, TlsProgram]]:
    with Node() as node, TlsProgram(node.pod("client")) as client, TlsProgram(node.pod("server")) as server:
        yield client, server


@pytest.mark.parametrize("memory_bio", [False, True])
def test_bytes_go_both_ways_in_one_write_each(programs: tuple[TlsProgram, TlsProgram], memory_bio: bool) -> None:
    client, server = programs
    with connect(client, server, memory_bio=memory_bio) as connection:
        assert connection.client_sends(b"a" * 8192) == 1
        assert connection.server_sends(b"b" * (1 << 20)) == 1
        assert connection.dst == (server.pod.ip, PORT)
        assert connection.src[0] == client.pod.ip


def test_a_write_is_refused_and_tried_again(programs: tuple[TlsProgram, TlsProgram]) -> None:
    with connect(*programs, small_buffers=True) as connection:
        assert connection.client_retries(b"c" * 300_000) > 0


def test_what_cannot_be_done_is_an_error(programs: tuple[TlsProgram, TlsProgram]) -> None:
    client, server = programs
    connection = connect(client, server)
    connection.server.close()
    connection.client.post_read(1)
    with pytest.raises(HarnessError, match="the other end closed"):
        client.answer()


def test_a_library_is_loaded_late_and_a_copy_is_another_file() -> None:
    with Node() as node:
        pod = node.pod("pod")
        # The code of copies is compared: a tapper of another test may have breakpoints in the machine's file.
        with (
            TlsProgram(pod, late=True, own_library=True) as late,
            TlsProgram(pod, own_library=True) as own,
            TlsProgram(pod) as usual,
        ):
            assert code.of_library(late.process.host_pid) == {}
            late.load()
            files = {program.ask("load")["library"] for program in (late, own, usual)}
            assert len(files) == 3
            assert list(code.of_library(late.process.host_pid).values()) == list(
                code.of_library(own.process.host_pid).values()
            )


def test_a_process_without_symbols_talks_to_one_with_them() -> None:
    with Node() as node, TlsProgram(node.pod("server")) as server, UnreadableProgram(node.pod("client")) as client:
        address, _ = client.exchange(server, b"question", b"answer")
        assert address == client.pod.ip
        assert code.of_library(client.process.host_pid) == {}
