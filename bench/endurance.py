"""The tapper's memory, descriptors and threads after very many pods, processes and packets. `script/bench --endurance`.

churn    pods and processes come and go while one pod is watched: nothing of that pod is lost, and nothing leaks
fuzz     packets that are broken at random places, of several kinds of traffic: memory does not grow
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

from bench import prices
from bench.measure import pss
from harness.adapters.reference import RunningTapper
from harness.mesh import delivery
from harness.mesh.fake_envoy import start as start_envoy
from harness.sandbox.node import Node
from harness.waiting import wait_until
from tapper.protocols.records import Record
from tapper.protocols.session import Session
from tapper.run.parts import chosen
from tapper.streams.bounds import Limits
from tapper.streams.connection import Scope

PODS, PROCESSES, PACKETS = 1_000, 10_000, 10_000_000
HELD: Final = 32 << 20
"""Bytes that the connections may hold while packets are fuzzed: a bound that is soon reached."""
_WARM: Final = 20
"""Pods that come and go before what is kept is counted for the first time."""
_AT_ONCE = 500
_STEP_NS = 100_000
"""Nanoseconds from one fuzzed packet to the next."""
_MIB = 1 << 20
_PEACE_S = 60.0
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def table(*, quick: bool) -> str:
    """Both, as text; with `quick` a fiftieth of each. Raises HarnessError."""
    part = 50 if quick else 1
    return f"{churn(PODS // part, PROCESSES // part)}\n{fuzz(PACKETS // part)}\n"


@dataclass(frozen=True, slots=True)
class Kept:
    """The descriptors, threads, memory and sources of a tapper at one moment."""

    descriptors: int
    threads: int
    mib: float
    sources: int


@dataclass(frozen=True, slots=True)
class Churned:
    """How a tapper got through the coming and going."""

    pods: int
    processes: int
    asked: int
    """Requests to the watched pod, and how many of them were reported exactly once."""
    seen: int
    before: Kept
    after: Kept

    def __str__(self) -> str:
        return (
            f"{self.pods} pods and {self.processes} processes came and went: of {self.asked} requests to the watched "
            f"pod {self.seen} were reported once\n  before: {self.before}\n  after:  {self.after}"
        )


def churn(pods: int = PODS, processes: int = PROCESSES) -> Churned:
    """Watch one pod while others, which are targets as well, come and go with their processes. Raises HarnessError."""
    each = -(-processes // pods)
    with Node() as node, RunningTapper(node, _addresses(pods + 1)) as tapper:
        watched = node.pod("watched")
        start_envoy(watched)
        tapper.wait_capturing(watched)
        asked: list[str] = []
        before = _at_peace(tapper)
        with delivery.inbound(watched) as connection:
            for number in range(pods):
                if number == min(_WARM, pods - 1):
                    before = _at_peace(tapper)
                pod = node.pod(f"pod-{number}")
                start_envoy(pod)
                pod.run(["sh", "-c", f"i=0; while [ $i -lt {each} ]; do /bin/true; i=$((i+1)); done"])
                asked.append(f"/{number}")
                connection.exchange(b"GET /%d HTTP/1.1\r\nHost: shop\r\n\r\n" % number, _ANSWER)
                pod.delete()
        tapper.wait_targets(asked, pod=watched)
        after, seen = _at_peace(tapper), tapper.seen(watched)
        return Churned(pods, pods * each, len(asked), sum(seen[each] == 1 for each in asked), before, after)


def _addresses(count: int) -> list[str]:
    """The addresses that a node gives to its first pods."""
    return [f"10.244.{number >> 8}.{number & 255}" for number in range(2, 2 + count)]


def _at_peace(tapper: RunningTapper) -> Kept:
    """The tapper's counts as soon as it captures on the node and in the watched pod only."""
    wait_until(lambda: len(tapper.open_sources()) == 2, "the deleted pods to be let go", _PEACE_S)
    process = Path("/proc", str(tapper.process.host_pid))
    descriptors, threads = (len(os.listdir(process / name)) for name in ("fd", "task"))
    return Kept(descriptors, threads, pss(tapper.process.host_pid) / 1024, len(tapper.open_sources()))


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """The resident memory of this process after a part of the packets, and at the end."""

    packets: int
    records: int
    mib: tuple[float, ...]
    seconds: float

    def __str__(self) -> str:
        course = " ".join(f"{each:.0f}" for each in self.mib)
        return (
            f"{self.packets} packets, {self.records} records in {self.seconds:.0f} s; MiB of memory by tenths: {course}"
        )


def fuzz(packets: int = PACKETS, seed: int = 1) -> Fuzzed:
    """Read so many packets, one in eight of which is broken, in this process."""
    parts, began, made = chosen(), time.monotonic(), 0
    tenths: list[float] = []
    connections = parts.connections(
        Scope(prices.POD, None), lambda it: Session(it, lambda _: None, readers=parts.readers), Limits(held_bytes=HELD)
    )
    records: list[Record] = []
    done = 0
    for portion in _portions(random.Random(seed)):
        memory, read = prices.in_memory(portion, prices.START_NS + done * _STEP_NS, _STEP_NS)
        connections.packets(memory, read, records)
        connections.tell_time(read[-1][0])
        made += len(records)
        records.clear()
        done += len(portion)
        while len(tenths) < done * 10 // packets:
            tenths.append(_resident())
        if done >= packets:
            break
    return Fuzzed(done, made, tuple(tenths), time.monotonic() - began)


def _portions(chance: random.Random) -> Iterator[list[bytes]]:
    """Packets of all inputs of `bench.prices` in turn, in other orders and broken in other places each time."""
    inputs = [[frame[14:] for frame in make(0.02)] for make in prices.INPUTS.values()]
    for packets in cycle(inputs):
        start, other = chance.randrange(max(1, len(packets) - _AT_ONCE)), chance.randbytes(1)
        portion = [_from(other, data) for data in packets[start : start + _AT_ONCE]]
        portion = [_broken(data, chance) if chance.random() < 1 / 8 else data for data in portion]
        if chance.random() < 1 / 4:
            chance.shuffle(portion)
        yield portion


def _from(other: bytes, data: bytes) -> bytes:
    """The packet of another connection: with 127.0.X.6 in place of 127.0.0.6."""
    at = 14 if data[12] == 127 else 18
    return data[:at] + other + data[at + 1 :]


def _broken(data: bytes, chance: random.Random) -> bytes:
    """The packet cut off, repeated in itself, or with other octets in one or two places."""
    place = chance.randrange(len(data))
    kind: Callable[[], bytes] = chance.choice(
        [
            lambda: data[:place],
            lambda: data[:place] + data[place // 2 :],
            lambda: data[:place] + chance.randbytes(1) + data[place + 1 :],
            lambda: data[:place] + chance.randbytes(4) + data[place + 4 :],
        ]
    )
    return kind()


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB
