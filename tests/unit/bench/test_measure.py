"""The numbers are what they say: cost, counts and deaths, on programs whose cost and output are known."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter

import pytest

from bench.measure import Died, Metered, measure
from bench.peers import Peer, both, by_name, records
from bench.workloads import Protocol, Site, Way, Workload
from harness.sandbox.node import Node
from harness.waiting import wait_until

SMALL = Workload("small", requests=208, rate=1500)
BURN = """
import os, signal, sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
"""
NEAR = 0.3  # processor seconds: an interpreter's start on a busy machine; what is counted twice is more than that
COARSE = 2 / os.sysconf("SC_CLK_TCK")  # user and system time of the dead are told in whole ticks, rounded down


def python(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", BURN + text]


@pytest.fixture
def site(node: Node) -> Site:
    return Site(node, Way.PLAIN)


def written(metered: Metered) -> bytes:
    return wait_until(metered.output, "the program's output", logs=lambda: metered.log)


def test_a_program_that_waits_costs_nothing(node: Node) -> None:
    metered = Metered(node, python("print('up', flush=True); signal.pause()"))
    written(metered)
    before = metered.rest()
    assert metered.rest() - before < 0.005
    assert before < 0.3


def test_a_busy_program_costs_what_it_burnt(node: Node) -> None:
    metered = Metered(node, python("burn(0.5); print('done', flush=True); signal.pause()"))
    written(metered)
    spent = metered.rest()
    assert 0.5 <= spent < 0.5 + NEAR


@pytest.mark.parametrize(
    "there", ["os.waitpid(child, 0)", "time.sleep(0.0)"], ids=["waited for by its parent", "still a zombie"]
)
def test_what_a_child_burnt_counts(node: Node, there: str) -> None:
    program = f"""
child = os.fork()
if child == 0:
    burn(0.4)
    print('done', flush=True)
    os._exit(0)
{there}
signal.pause()
"""
    metered = Metered(node, python(program))
    written(metered)
    assert 0.4 - COARSE <= metered.rest() < 0.4 + NEAR


def test_what_an_orphan_burnt_counts_at_the_end_and_it_is_not_left_behind(node: Node) -> None:
    program = """
signal.signal(signal.SIGINT, lambda *_: os._exit(7))
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    burn(0.4)
    print('done', flush=True)
    while True: signal.pause()
while True: signal.pause()
"""
    metered = Metered(node, python(program))
    written(metered)
    before = metered.rest()
    code, spent = metered.stop()
    assert code == 7
    assert 0.4 - COARSE <= before <= spent < 0.4 + NEAR
    assert not node.strays()


def test_memory_without_the_ring(node: Node) -> None:
    """64 MiB that are touched count; a packet ring of 64 MiB does not."""
    ring = """
import mmap, socket, struct
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.setsockopt(263, 10, 2)  # PACKET_VERSION, TPACKET_V3
sock.setsockopt(263, 5, struct.pack('=7I', 1 << 20, 64, 2048, (64 << 20) // 2048, 100, 0, 0))  # PACKET_RX_RING
ring = mmap.mmap(sock.fileno(), 64 << 20)
sum(ring[:: 4096])
"""
    heap = "kept = b'x' * (64 << 20)"
    memory = []
    for program in (ring, heap):
        metered = Metered(node, python(program + "\nprint('up', flush=True); signal.pause()"))
        written(metered)
        memory.append(metered.memory())
        metered.forget()
    assert memory[0] < 40_000
    assert memory[1] > 64 << 10


def test_counts_of_the_tapper_and_of_tcpdump_are_exact(site: Site) -> None:
    for peer in by_name("tapper,tcpdump -w"):
        found = measure(site, peer, SMALL)
        assert (found.died, found.seen, found.invented, found.requests) == (None, 208, 0, 208), found
        assert found.exact
        assert found.dropped == 0
        assert found.cpu_seconds > 0


def test_what_is_missing_or_too_much_is_told(site: Site) -> None:
    """Who reports every second exchange twice has seen half of them and invented as many."""
    (tapper,) = by_name("tapper")

    def halved(output: bytes) -> Counter[str]:
        return Counter(dict.fromkeys(sorted(records(output))[::2], 32))

    found = measure(site, dataclasses.replace(tapper, exchanges=halved), SMALL)
    assert (found.seen, found.invented) == (112, 112)  # of 13 nonces, seven, each sent by 16 connections
    assert not found.exact


CAPTURES = """
import socket
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (CAPTURES + "sock.recv(1)\nsys.exit('cannot go on')", "cannot go on"),
        (CAPTURES + "signal.signal(signal.SIGINT, lambda *_: sys.exit('bad end'))\nsignal.pause()", "bad end"),
        ("sys.exit('no device')", "no device"),
    ],
    ids=["in the midst of the traffic", "when it is asked to end", "before it captures"],
)
def test_a_peer_that_dies_is_told(site: Site, program: str, said: str) -> None:
    peer = Peer("mortal", tuple(python(program)), "nothing", both())
    found = measure(site, peer, SMALL)
    assert said in (found.died or "")
    assert not found.exact
    assert found.share is None


def test_one_that_sees_nothing_has_a_share_of_nothing(site: Site) -> None:
    program = CAPTURES + "signal.signal(signal.SIGINT, lambda *_: sys.exit(0))\nsignal.pause()"
    found = measure(site, Peer("blind", tuple(python(program)), "nothing", both()), SMALL)
    assert (found.died, found.share, found.invented) == (None, 0.0, 0)


def test_the_last_words_of_a_program_that_is_not_there(node: Node) -> None:
    metered = Metered(node, ["no-such-program"])
    with pytest.raises(Died, match="cannot run no-such-program"):
        wait_until(lambda: metered.cpu() < 0, "its end")


def test_a_mesh_is_measured_behind_the_real_envoys(node: Node) -> None:
    """On the server pod's lo; the tapper reports what came through mTLS, each once."""
    site = Site(node, Way.MESH)
    (tapper,) = by_name("tapper")
    found = measure(site, tapper, dataclasses.replace(SMALL, way=Way.MESH))
    assert found.exact, found


@pytest.mark.parametrize("protocol", [Protocol.HTTP2, Protocol.GRPC])
def test_http2_is_counted(site: Site, protocol: Protocol) -> None:
    (tapper,) = by_name("tapper")
    assert measure(site, tapper, dataclasses.replace(SMALL, protocol=protocol)).exact
