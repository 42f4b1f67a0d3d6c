"""The programs that run inside pods: as they are started there, but in a sandbox."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from harness.adapters.reference import TAPPER_ENVIRON
from harness.errors import HarnessError
from harness.mesh import traffic
from harness.mesh.mesh import Mesh
from harness.mesh.traffic import nonces
from harness.sandbox.frames import Frame
from harness.sandbox.process import Command
from harness.sandbox.recorder import Recorded
from harness.waiting import wait_until
from harness.worlds.cluster.frames import ClusterRecording


class Ended:
    """A program that has ended with this output."""

    def __init__(self, output: str) -> None:
        self._output = output

    def output(self) -> str:
        return self._output

    def stop(self) -> str:
        return self._output


def read(output: str) -> ClusterRecording:
    return ClusterRecording(Ended(output), "server")


class Given(Recorded):
    """A recording of these frames."""

    name = "server"

    def __init__(self, *given: Frame) -> None:
        self._given = list(given)

    @property
    def frames(self) -> list[Frame]:
        return self._given

    def require_whole(self) -> None:
        """No frame is missing."""


def test_a_sniffer_records_what_crosses(mesh: Mesh) -> None:
    """The one pod's packets, in plain sight; another's are not in it."""
    client, server, other = mesh.pod("client"), mesh.pod("server"), mesh.pod("other")
    argv = [sys.executable, "-m", "harness.worlds.programs.sniff", "--address", server.ip]
    sniffer = mesh.node.spawn(Command(argv, env=TAPPER_ENVIRON))
    wait_until(lambda: "ready" in sniffer.read_log(), "the sniffer", logs=sniffer.read_log)
    sent = mesh.send(client, server, 5)
    foreign = traffic.send(client.pod, other.ip, 8080, 5)
    assert sniffer.stop() == 0
    recorded = read(sniffer.read_log())
    assert recorded.found(nonces(sent) | nonces(foreign)) == nonces(sent)
    tls, plain = recorded.carried(8080)
    assert tls == 0
    assert plain > 0


def test_a_recording_that_is_not_whole_is_no_evidence() -> None:
    with pytest.raises(HarnessError, match="its end is missing"):
        read("ready\n").found([])
    with pytest.raises(HarnessError, match="the kernel dropped 3 frames"):
        read('ready\n{"dropped": 3}\n').found([])
    assert read('ready\n{"dropped": 0}\n').frames == []


def segment(seq: int, data: bytes = b"") -> Frame:
    """A TCP segment of one connection, with its acknowledgement."""
    packet = Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=8080, seq=seq, flags="A") / data
    return Frame(0, bytes(packet))


def test_a_connection_that_is_older_than_the_recording() -> None:
    """It begins with a keep-alive; what follows is whole, and what is missing later is not."""
    segments = [segment(99), segment(100, b"GET /non"), segment(108, b"ce-1 HTTP/1.1")]
    older = Given(*segments)
    assert older.found({"nonce-1"}) == {"nonce-1"}
    assert older.carried(8080) == (0, len(b"GET /nonce-1 HTTP/1.1"))
    with pytest.raises(HarnessError, match="2 bytes of a stream are not in the recording"):
        Given(*segments, segment(123, b"x")).found({"nonce-1"})


@pytest.mark.parametrize("how", ["a line", "the end"])
def test_a_leash_ends_its_program(how: str) -> None:
    argv = [sys.executable, "-m", "harness.worlds.programs.leash", sys.executable, "-c", CHILD]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}) as leash:
        assert leash.stdin is not None
        assert leash.stdout is not None
        child = int(leash.stdout.readline())
        if how == "a line":
            leash.stdin.write(b"end\n")
            leash.stdin.flush()
        else:
            leash.stdin.close()
        assert leash.stdout.read() == b"ended\n"
        assert leash.wait(10) == 7
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


CHILD = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print(os.getpid(), flush=True)
signal.sigwait([signal.SIGTERM])
print("ended", flush=True)
sys.exit(7)
"""
