"""The counts of sources and pods, end to end: real processes, real namespaces, played traffic."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

from harness.adapters.reference import TAPPER_ENVIRON, RunningTapper, tapper_argv
from harness.mesh import fake_envoy, replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command
from harness.waiting import wait_until

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PACKETS = 3 + 2 + 3  # of a conversation of one exchange: handshake, request and response, end


def play(pod: Pod, path: str, port: int) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


def test_stat_records_of_every_source(node: Node, tapper: StartTapper) -> None:
    """Two pods have counts of their own; SIGUSR1 brings them while it captures, marked as what comes again."""
    first, second = node.pod("first"), node.pod("second")
    for pod in (first, second):
        fake_envoy.start(pod)
    running = tapper([first, second])
    running.wait_capturing(first, second)
    for number in range(3):
        play(first, f"/first/{number}", 41000 + number)
    play(second, "/second", 41000)
    running.wait_targets(["/first/0", "/first/1", "/first/2", "/second"])
    running.process.send_signal(signal.SIGUSR1)
    running.wait_for(lambda: len(running.of_type("stat")) == 4, "the counts so far")
    play(second, "/later", 42000)
    running.wait_targets(["/later"])
    assert running.stop() == 0

    stats = running.of_type("stat")
    told = [(it.get("instance_ip"), it["received"], it["exchanges"], it["incomplete"]) for it in stats]
    zeros = [(None, 0, 0, 0)]  # the node's interfaces: what is played on a lo does not pass them
    assert sorted(told[:4], key=str) == sorted(
        [*zeros, (first.ip, 3 * PACKETS, 3, 0), (second.ip, PACKETS, 1, 0), (None, 4 * PACKETS, 4, 0)], key=str
    )
    assert [it.get("so_far") for it in stats] == [True] * 4 + [None] * 4
    assert sorted(told[4:], key=str) == sorted(
        [*zeros, (first.ip, 3 * PACKETS, 3, 0), (second.ip, 2 * PACKETS, 2, 0), (None, 5 * PACKETS, 5, 0)], key=str
    )
    assert "EXCHANGES" not in running.read_log(), "the records have them"


def test_a_table_that_goes_on_when_a_source_is_opened_again(node: Node, tmp_path: Path) -> None:
    """The pod's Envoy restarts: one line for the pod, with the exchanges of both times; a neighbour has its own."""
    pod, neighbour = node.pod("server"), node.pod("neighbour")
    envoy = fake_envoy.start(pod)
    fake_envoy.start(neighbour)
    path = tmp_path / "out"
    path.touch()
    targets = f"{pod.ip},{neighbour.ip}"
    argv = tapper_argv("tap", "--istio", "--filter-authorities", targets, "-w", str(path), "-o", "har")
    process = node.spawn(Command(argv, env=TAPPER_ENVIRON), name="tapper")
    ports = iter(range(41000, 49000))
    sent = 0

    def seen(whose: Pod, path_: str) -> bool:
        nonlocal sent
        sent += whose is pod
        play(whose, path_, next(ports))
        return f"http://shop{path_}" in path.read_text()

    wait_until(lambda: seen(neighbour, "/beside"), "the neighbour's exchanges")
    wait_until(lambda: seen(pod, "/before"), "exchanges before the restart")
    envoy.stop()
    fake_envoy.start(pod)
    wait_until(lambda: seen(pod, "/after"), "exchanges after it")
    process.send_signal(signal.SIGUSR1)
    wait_until(lambda: "NOT DECODED" in process.read_log(), "the counts so far")
    assert process.stop() == 0, process.read_log()

    so_far, final = process.read_log().split("so far:")[-1].split("NOT DECODED")[1:]
    entries = path.read_text()
    expected = entries.count("/before") + entries.count("/after")
    assert 2 <= expected <= sent
    counts = []
    for table in (so_far, final):
        (line,) = [line.split() for line in table.splitlines() if re.match(rf"tapper: +{pod.ip} ", line)]
        assert (line[2], line[10]) == ("lo", "0")
        counts.append(int(line[9]))
    assert 2 <= counts[0] <= counts[1] == expected, "what is in the ring at the signal is not seen yet"
    assert re.search(rf"tapper: +{neighbour.ip} +lo +\d+ +\d+ +0 +0 +0 +0 +{entries.count('/beside')} ", final)
