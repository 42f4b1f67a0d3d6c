"""The reference tapper, right but different: `otherwise.py WAY`, with a key of `CHANGES` or one of slow, bursts,
shuffled and processes.

It runs the reference as the adapter contract wants it in a process of its own, hands signals on to it, and passes its
records on, each in its own way.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from ipaddress import IPv6Address
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

REFERENCE = Path(__file__).resolve().parents[4] / "harness" / "adapters" / "shipped" / "reference.py"
SLOW_S = 5.0
BURST_S = 2.0
WINDOW_S = 0.3

Record = dict[str, Any]
Change = Callable[[Record], Iterable[Record]]


def unchanged(record: Record) -> Iterator[Record]:
    yield record


def fields(record: Record) -> Iterator[Record]:
    """With fields and types that nobody knows, in every place where the contract allows them."""
    yield {"type": "vendor.trace", "x": [1, None, {"é": "\ud83d\ude00"}]}
    more = {"x-vendor": {"span": "1", "nested": [[]]}, "confidence": 0.75, "zz": None}
    for name in ("request", "response"):
        if isinstance(record.get(name), dict):
            record[name] = record[name] | more
    yield dict(sorted((record | more).items(), reverse=True))


def less(record: Record) -> Iterator[Record]:
    """What is needed of an exchange, that its bodies are left out, and nothing else.

    Answers whose requests were not seen are left out: the contract requires a target.
    """
    if record["type"] == "http" and record["target"] is not None:
        told = {key: record[key] for key in ("type", "method", "target", "status") if key in record}
        yield told | {name: {"truncated": True} for name in ("request", "response") if record.get(name)}


def reader(record: Record) -> Iterator[Record]:
    """`ts` is when a reader has taken the packet that looks at its capture twice a second."""
    if record["type"] == "http":
        record["ts"] = math.ceil(record["ts"] * 2) / 2
    yield record


def by_ipv6(record: Record) -> Iterator[Record]:
    """A pod is named by the IPv6 address that its namespace has."""
    if record["type"] == "http" and (address := _global_address(record["netns"])):
        record["pod_ip"] = str(IPv6Address(int(address, 16)))
    yield record


def heads(record: Record) -> Iterator[Record]:
    """Without any body, and without a word about bodies."""
    for name in ("request", "response"):
        if isinstance(record.get(name), dict):
            record[name] = {key: record[name][key] for key in ("headers", "trailers") if key in record[name]}
    yield record


def spelled(record: Record) -> Iterator[Record]:
    """All addresses as IPv6, with all their digits and in capitals or with an IPv4 address in them (RFC 4291, section
    2.5.5.2), short versions, and the older words of the contract."""
    for named in by_ipv6(record):
        for end in ("src", "dst"):
            host, colon, port = str(named.get(end)).rpartition(":")
            if colon:
                named[end] = f"[{_as_ipv6(host.strip('[]'))}]:{port}"
        if named.get("pod_ip"):
            named["pod_ip"] = _as_ipv6(named["pod_ip"])
        if named.get("version"):
            named["version"] = {"HTTP/1.1": "1.1", "HTTP/2": "2"}.get(named["version"], named["version"])
        if (mtls := named.pop("mtls", None)) is not None:
            named["wire"] = "tls" if mtls else "plain"
        if named.get("direction") == "node":
            named["direction"] = "wire"
        yield named


def _as_ipv6(address: str) -> str:
    return IPv6Address(address).exploded.upper() if ":" in address else f"::ffff:{address}"


@cache
def _global_address(netns: int) -> str | None:
    """Of a network namespace (inode): by the first process that is found in it (proc_pid_net(5), if_inet6)."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "ns" / "net") == f"net:[{netns}]":
                rows = [row.split() for row in (entry / "net" / "if_inet6").read_text().splitlines()]
                return next((digits for digits, _, _, scope, _, link in rows if scope == "00" and link == "eth0"), None)
        except OSError:
            continue
    return None


CHANGES: dict[str, Change] = {"fields": fields, "less": less, "reader": reader, "ipv6": by_ipv6, "heads": heads}
CHANGES["spelled"] = spelled


def lines(source: Iterable[bytes]) -> SimpleQueue[bytes | None]:
    """What is read, as it comes; None at the end."""
    queue: SimpleQueue[bytes | None] = SimpleQueue()

    def read() -> None:
        for line in source:
            queue.put(line)
        queue.put(None)

    threading.Thread(target=read).start()
    return queue


def batches(queue: SimpleQueue[bytes | None], seconds: float) -> Iterator[list[bytes]]:
    """What comes within so long, together; the last at once."""
    while True:
        batch: list[bytes] = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                line = queue.get(timeout=left)
            except Empty:
                break
            if line is None:
                yield batch
                return
            batch.append(line)
        yield batch


def shuffled(batch: list[bytes], chance: random.Random) -> list[bytes]:
    """The exchanges in another order; acknowledgements and what else there is come after what was before them."""
    exchanges = [line for line in batch if b'"type":"http"' in line or b'"type": "http"' in line]
    chance.shuffle(exchanges)
    return [*exchanges, *(line for line in batch if line not in exchanges)]


def encoded(record: Record, way: str) -> bytes:
    """A line of JSON; in the way `spelled` with spaces, escaped slashes and a carriage return (RFC 8259, section 2)."""
    if way != "spelled":
        return json.dumps(record).encode() + b"\n"
    return json.dumps(record, separators=(" , ", " : ")).replace("/", "\\/").encode() + b" \r\n"


def write(some: Iterable[bytes]) -> None:
    sys.stdout.buffer.write(b"".join(some))
    sys.stdout.buffer.flush()


def main(way: str) -> int:
    """Run it until it is asked to end."""
    asked = threading.Event()
    child: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: object) -> None:
        if number != signal.SIGHUP:
            asked.set()
        for process in child[:1]:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    if way == "slow" and asked.wait(SLOW_S):
        return 0
    ready = os.environ["TAPPER_HARNESS_READY_FD"]
    pass_fds = [int(ready)] if ready else []
    child.append(subprocess.Popen([sys.executable, str(REFERENCE)], stdout=subprocess.PIPE, pass_fds=pass_fds))
    for fd in pass_fds:
        os.close(fd)
    if asked.is_set():
        child[0].send_signal(signal.SIGTERM)
    source = child[0].stdout
    if way == "processes":  # two more, each of which writes what the one before it writes
        for _ in range(2):
            copy = subprocess.Popen(["cat"], stdin=source, stdout=subprocess.PIPE, start_new_session=True, bufsize=0)
            child.append(copy)
            source = copy.stdout
    assert source is not None
    queue, chance = lines(source), random.Random(1)
    if way == "bursts":
        for batch in batches(queue, BURST_S):
            write(batch)
    elif way == "shuffled":
        for batch in batches(queue, WINDOW_S):
            write(shuffled(batch, chance))
    else:
        change = CHANGES.get(way, unchanged)
        while (line := queue.get()) is not None:
            write(encoded(told, way) for told in change(json.loads(line)))
    return max(process.wait() for process in child)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
