"""The tapper's cost as a function of namespaces, processes, targets and time, and its reports after a gap."""

from __future__ import annotations

import functools
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.measure import Metered, measure, pss
from bench.peers import by_name, records
from bench.result import Point
from bench.workloads import PATH, Site, Way, Workload, site
from harness.adapters.reference import TAPPER_ENVIRON, tapper_argv
from harness.errors import HarnessError
from harness.mesh.sidecar import ENVOY_PATH, istio_environ
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scanner
from tapper.targets.addresses import Address

OPENING = "opening all namespaces"
IDLE = "idle, by namespaces"
IDLE_PROCESSES = "idle, by processes on the node"
SCAN = "a scan, nothing new, by processes on the node"
SCAN_NEWS = "a scan, processes begin, by processes on the node"
TARGETS = "500 B at 1500/s, by targets"
GAP = "seen of what begins after a gap"
MEMORY = "memory, by exchanges so far"
GROWTH = "memory's growth after the first fifth"
UNITS = {
    OPENING: "s",
    IDLE: "% of a core",
    IDLE_PROCESSES: "% of a core",
    SCAN: "ms CPU",
    SCAN_NEWS: "ms CPU",
    TARGETS: "CPU s/10k",
    GAP: "%",
    MEMORY: "MiB",
    GROWTH: "%",
}
_WATCHED_S = 3.0
_LONGEST_INTERVAL_S = 4.0  # between two scans, where the kernel gives exec events (docs/istio.md)
_SHORTEST_INTERVAL_S = 0.5  # the same elsewhere
_SCANS = 20
_YOUNG_S = 10.0  # after its start, the tapper re-reads the processes that it found at each scan: docs/istio.md
_UP = 60.0


def curves(*, quick: bool) -> dict[str, Iterator[Point]]:
    """The curves by name. A curve is measured while the caller iterates over its points."""
    return {
        "targets": targets((1, 1000) if quick else (1, 10, 100, 1000)),
        "gap": gap(),
        "namespaces": namespaces((1, 250) if quick else (1, 50, 250)),
        "processes": processes((100, 5000) if quick else (100, 1000, 5000)),
        "memory": memory(passes=10 if quick else 100),
    }


def _point(series: str, x: float, y: float) -> Point:
    return Point(series, x, y, UNITS[series])


def targets(counts: tuple[int, ...]) -> Iterator[Point]:
    """The cost of many targets: one address is the pod's, and no pod has the others."""
    (tapper,) = by_name("tapper")
    with site(Way.PLAIN) as where:
        for count in counts:
            others = ",".join(f"10.200.{number >> 8}.{number & 255}" for number in range(1, count))
            arguments = [f"{part},{others}".rstrip(",") if part == "{address}" else part for part in tapper.arguments]
            found = measure(where, replace(tapper, arguments=tuple(arguments)), Workload("targets", requests=1600))
            if not found.exact:
                raise HarnessError(f"with {count} targets the tapper did not see what was sent: {found}")
            yield _point(TARGETS, count, found.per_10k)


def namespaces(counts: tuple[int, ...]) -> Iterator[Point]:
    """The time from the capture of the node until all namespaces are captured, and their cost while they are idle."""
    with Node() as node:
        addresses: list[str] = []
        for count in counts:
            while len(addresses) < count:
                pod = node.pod(f"pod-{len(addresses)}")
                envoy = Command([ENVOY_PATH, "1d"], executable=ENVOY_PATH, env=istio_environ(pod))
                pod.spawn(replace(envoy, binds={ENVOY_PATH: "/usr/bin/sleep"}), name="envoy")
                addresses.append(pod.ip)
            tapper = _start(node, addresses)
            node_open = _opened(tapper, 0)
            yield _point(OPENING, count, _opened(tapper, count) - node_open)
            _grow_old(tapper)
            yield _point(IDLE, count, _idle(tapper))
            tapper.stop()
            tapper.forget()


def processes(counts: tuple[int, ...]) -> Iterator[Point]:
    """The cost of processes that belong to no target: the idle tapper with its scans and the kernel's events, one scan
    while no process starts, and one scan while ten processes a second start."""
    with Node() as node:
        pod = node.pod("server")
        envoy = Command([ENVOY_PATH, "1d"], executable=ENVOY_PATH, env=istio_environ(pod))
        pod.spawn(replace(envoy, binds={ENVOY_PATH: "/usr/bin/sleep"}), name="envoy")
        targets = frozenset({pod.ipv4})
        running = 0
        for count in counts:
            many = f"i={running}; while [ $i -lt {count} ]; do sleep 1d & i=$((i+1)); done; wait"
            node.spawn(["sh", "-c", many], name="many")
            wait_until(functools.partial(_are_running, node.procfs, count), f"{count} processes", _UP)
            running = count
            tapper = _start(node, [pod.ip])
            _opened(tapper, 1)
            scanner = Scanner(Procfs(node.procfs), {Finder.ENVOY})
            scanner.scan(targets)
            _grow_old(tapper)
            yield _point(IDLE_PROCESSES, count, _idle(tapper, 3 * _LONGEST_INTERVAL_S))
            tapper.stop()
            tapper.forget()
            yield _point(SCAN, count, _scan_cost(scanner, targets))
            births = node.spawn(["sh", "-c", "while :; do sleep 0.1; done"], name="births")
            yield _point(SCAN_NEWS, count, _scan_cost(scanner, targets, _SHORTEST_INTERVAL_S))
            births.stop()
            node.forget(births)


def _scan_cost(scanner: Scanner, targets: frozenset[Address], interval_s: float = 0.0) -> float:
    """The mean processor time of one scan, in milliseconds, over several scans with this interval in seconds."""
    spent = 0.0
    for _ in range(_SCANS):
        wait_until(functools.partial(_is_past, time.monotonic() + interval_s), "the next scan", _UP)
        before = time.process_time()
        scanner.scan(targets)
        spent += time.process_time() - before
    return spent / _SCANS * 1000


def _is_past(moment: float) -> bool:
    return time.monotonic() >= moment


def _are_running(procfs: Path, count: int) -> bool:
    """True if that many processes run their program: before execve(2), a fork still runs its parent's."""
    return sum(_sleeps(entry) for entry in procfs.iterdir() if entry.name.isdigit()) >= count


def _sleeps(process: Path) -> bool:
    try:
        return (process / "cmdline").read_bytes() == b"sleep\x001d\x00"
    except (FileNotFoundError, ProcessLookupError):  # the process has ended since the listing
        return False


def _start(node: Node, addresses: list[str]) -> Metered:
    argv = tapper_argv("tap", "--istio", "--filter-authorities", ",".join(addresses), "-o", "ndjson")
    return Metered(node, argv, env=TAPPER_ENVIRON)


def _opened(tapper: Metered, count: int) -> float:
    """The moments (monotonic clock) at which the node's source and the last of so many pods' sources were open, found
    by a look every few milliseconds."""

    def open_now() -> bool:
        tapper.cpu()
        opened = re.findall(rb'"state": ?"open","kind": ?"(\w+)"', tapper.output())
        return bool(opened) and len(opened) - opened.count(b"node") >= count

    wait_until(open_now, f"{count} namespaces to be captured", _UP, lambda: tapper.log)
    return time.monotonic()


def _grow_old(tapper: Metered) -> None:
    """Wait until the tapper no longer treats the processes of its start as recent."""
    since = time.monotonic()
    wait_until(lambda: tapper.cpu() and time.monotonic() - since >= _YOUNG_S + 1, "the beginning to be over", _UP)


def _idle(tapper: Metered, watched_s: float = _WATCHED_S) -> float:
    """The idle tapper's processor time in per cent of a core."""
    before, since = tapper.rest(), time.monotonic()
    wait_until(lambda: time.monotonic() - since >= watched_s, "the end of the while", watched_s * 2)
    return (tapper.cpu() - before) / (time.monotonic() - since) * 100


# A recording, read from a file: the effect of a gap and the growth of memory do not depend on the way of capture.

_FILE_HEADER, _RECORD = 24, struct.Struct("=IIII")  # pcap: seconds, microseconds, bytes kept, bytes (pcap-savefile(5))
_ONCE = Workload("recorded", requests=3200)


def _record(where: Site, workload: Workload) -> bytes:
    """The packets of a workload, as tcpdump records them."""
    file = where.node.run_dir / "recorded"
    argv = ["tcpdump", "--immediate-mode", "-U", "-i", "lo", "-s", "0", "-B", "65536", "-w", Node.inside(file)]
    tcpdump = where.pod.spawn([*argv, f"tcp port {workload.protocol.port}"])
    wait_until(lambda: "listening on" in tcpdump.read_log(), "tcpdump to listen", logs=tcpdump.read_log)
    sent = where.send(workload)

    def whole() -> bool:
        return file.read_bytes().count(b"x-nonce: ") == sent.requests

    wait_until(whole, "tcpdump to have recorded all", logs=tcpdump.read_log)
    tcpdump.stop()
    return file.read_bytes()


def _packets(recorded: bytes) -> Iterator[tuple[float, bytes]]:
    """The time and the bytes of each packet, with its record header."""
    at = _FILE_HEADER
    while at + _RECORD.size <= len(recorded):
        seconds, micros, kept, _ = _RECORD.unpack_from(recorded, at)
        yield seconds + micros / 1e6, recorded[at : at + _RECORD.size + kept]
        at += _RECORD.size + kept


def gap() -> Iterator[Point]:
    """Cut a fifth of a second out of the middle of a recording. The value is the share of the exchanges with a later
    request that the tapper reports."""
    with site(Way.PLAIN) as where:
        recorded = _record(where, _ONCE)
    kept, after = cut(recorded, 0.2)
    with tempfile.NamedTemporaryFile() as file:
        file.write(kept)
        file.flush()
        argv = tapper_argv("tap", "-r", file.name, "-o", "ndjson")
        done = subprocess.run(argv, capture_output=True, env=TAPPER_ENVIRON, check=True)
    seen = records(done.stdout)
    yield _point(GAP, len(after), (seen & Counter(after)).total() / len(after) * 100)


def cut(recorded: bytes, seconds: float) -> tuple[bytes, list[str]]:
    """The recording without so many seconds of its middle, and the nonces of the requests after the gap."""
    packets = list(_packets(recorded))
    begin = (packets[0][0] + packets[-1][0]) / 2
    request = re.compile(re.escape(PATH).encode() + rb"([0-9a-f]+)")
    kept = [data for ts, data in packets if not begin <= ts < begin + seconds]
    late = [request.search(data) for ts, data in packets if ts >= begin + seconds]
    return recorded[:_FILE_HEADER] + b"".join(kept), [found[1].decode() for found in late if found]


def memory(passes: int) -> Iterator[Point]:
    """Play one recording repeatedly, each time later and as new connections. The points are the memory after each tenth
    of the whole."""
    with site(Way.PLAIN) as where:
        recorded = _record(where, _ONCE)
    packets = list(_packets(recorded))
    argv = tapper_argv("tap", "-r", "-", "-o", "ndjson", "-w", "/dev/null")
    found: list[Point] = []
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=TAPPER_ENVIRON) as tapper:
        assert tapper.stdin is not None
        tapper.stdin.write(recorded[:_FILE_HEADER])
        for number in range(passes):
            tapper.stdin.write(b"".join(_later(data, 60 * number) for _, data in packets))
            tapper.stdin.flush()
            if (number + 1) % max(1, passes // 10) == 0:
                found.append(_point(MEMORY, (number + 1) * _ONCE.requests, pss(tapper.pid) / 1024))
        tapper.stdin.close()
        if tapper.wait(_UP) != 0:
            raise HarnessError(f"the tapper ended with {tapper.returncode} over a long recording")
    yield from found
    early = found[len(found) // 5].y
    yield _point(GROWTH, found[-1].x, (max(point.y for point in found[len(found) // 5 :]) / early - 1) * 100)


def _later(record: bytes, seconds: int) -> bytes:
    moved = int.from_bytes(record[:4], sys.byteorder) + seconds
    return moved.to_bytes(4, sys.byteorder) + record[4:]
