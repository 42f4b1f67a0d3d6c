"""One measurement: start a peer, send known traffic, and read the peer's cost and reports.

Its cost is the processor time of its whole tree between two moments of rest: when it captures and has done with its
start, and when it has done with the traffic. Starting and ending are left out; what a peer puts off until its end is
told apart (`ending_seconds`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import meter
from bench.peers import Peer
from bench.workloads import Site, Workload
from harness.errors import HarnessError, WaitTimeout
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command
from harness.waiting import wait_until

READY_LIMIT = 30.0
SETTLE_LIMIT = 240.0
STOP_LIMIT = 60.0
_REST = 0.5  # seconds in which a program at rest …
_RESTING = 0.02  # … spends less than this share of a core
_HELD_BACK = 1.2  # seconds: libpcap gives a block that is not full to a program after one second (tcpdump's time-out)
_TICKS = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2  # the clock of a process: clock_getcpuclockid(3), linux/posix-timers.h


@dataclass(frozen=True, slots=True)
class Measurement:
    """The result of one peer with one workload. `died`: why there is no result; None if there is one."""

    workload: str
    peer: str
    requests: int = 0
    rate: float = 0.0
    """The measured rate, in requests a second."""
    cpu_seconds: float = 0.0
    ending_seconds: float = 0.0
    seen: int | None = None
    """The number of sent exchanges that the peer reported; None if its output does not tell."""
    invented: int = 0
    """The number of reports of exchanges that were never sent, and of repeated reports."""
    dropped: int | None = None
    """The number of lost packets that the peer reports itself; None if it reports none."""
    pss_kib: int = 0
    """Proportional set size of the process tree in KiB, without packet rings (proc_pid_smaps(5))."""
    died: str | None = None

    @property
    def per_10k(self) -> float:
        """Processor seconds for 10,000 requests."""
        return self.cpu_seconds / self.requests * 10_000 if self.requests else 0.0

    @property
    def share(self) -> float | None:
        """The share of the sent exchanges that the peer reported; None if its output does not tell."""
        return None if self.seen is None or not self.requests else self.seen / self.requests

    @property
    def exact(self) -> bool:
        """True if the peer reported each sent exchange once, with the right response, and nothing else."""
        return self.died is None and self.seen == self.requests and not self.invented


class Died(HarnessError):
    """The measured program ended by itself. The message has the end of its log."""


class Metered:
    """A program that runs under bench/meter.py on a node; with `pod`, in that pod's network namespace."""

    def __init__(self, node: Node, argv: Sequence[str], pod: Pod | None = None, env: Mapping[str, str] | None = None):
        self.directory = Path(node.run_dir / f"metered-{time.monotonic_ns()}")
        self.directory.mkdir()
        inside = Node.inside(self.directory)
        program = [sys.executable, "-I", "-S", meter.__file__, f"{inside}/report", f"{inside}/output"]
        filled = [part.replace("{directory}", inside) for part in argv]
        command = Command([*program, *filled], env={**MINIMAL_ENVIRON, **(env or {})}, cwd=inside)
        self._node = node
        self._process = node.spawn(command, pod=pod, name=f"metered-{Path(argv[0]).name}")
        self._meter = self._process.host_pid

    def tree(self) -> list[int]:
        """The pids of all processes below the meter, in this machine's PID namespace."""
        found: list[int] = []
        waiting = [self._meter]
        while waiting:
            pid = waiting.pop()
            try:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    children = [int(child) for child in (task / "children").read_text().split()]
                    found += children
                    waiting += children
            except OSError:
                continue  # the process has ended
        return found

    def cpu(self) -> float:
        """Processor seconds that the process tree has used so far, with its ended processes. Raises Died."""
        if not self._process.running:
            raise Died(self.last_words())
        tree = self.tree()
        return sum(map(own_cpu, tree)) + sum(map(_dead_cpu, [self._meter, *tree]))

    def rest(self, window: float = _REST, limit: float = SETTLE_LIMIT) -> float:
        """`wait_at_rest` for the process tree. Raises Died, too."""
        return wait_at_rest(self.cpu, window, limit)

    def memory(self) -> int:
        """KiB."""
        return sum(map(pss, self.tree()))

    def stop(self) -> tuple[int, float]:
        """Stop the program. Returns its exit code and the processor seconds that it used in all."""
        self._process.stop(STOP_LIMIT, signal.SIGINT)
        report = self.directory / "report"
        if not report.exists():
            raise Died(f"it did not end within {STOP_LIMIT:g} s of SIGINT")
        told = json.loads(report.read_text())
        return told["code"], told["cpu_seconds"]

    def last_words(self) -> str:
        return self._process.read_log().strip()[-300:] or "it ended without a word"

    @property
    def log(self) -> str:
        return self._process.read_log()

    def output(self) -> bytes:
        """All bytes that the program wrote, to standard output and to files of its own."""
        files = sorted(path for path in self.directory.rglob("*") if path.is_file() and path.name != "report")
        return b"".join(path.read_bytes() for path in files)

    def forget(self) -> None:
        """Stop the program if it still runs, and remove the files that it wrote: they take memory of the node."""
        if self._process.running:
            self._process.stop(0.0, signal.SIGKILL)
        self._node.forget(self._process)
        for path in sorted(self.directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.directory.rmdir()


def measure(site: Site, peer: Peer, workload: Workload) -> Measurement:
    """Start the peer, send the traffic, and return the peer's cost and reports."""
    sockets = packet_sockets(site.pod)
    own = None if peer.on_node else site.pod
    metered = Metered(site.node, peer.argv(site.pod.ip, workload.protocol), own, peer.env)
    try:
        try:
            wait_until(
                lambda: metered.cpu() > 0 and packet_sockets(site.pod) > sockets, f"{peer.name} to capture", READY_LIMIT
            )
            idle = metered.rest()
            sent = site.send(workload)
            spent = metered.rest(_HELD_BACK) - idle
            memory = metered.memory()
            code, total = metered.stop()
        except (Died, WaitTimeout) as problem:
            return Measurement(workload.name, peer.name, died=str(problem)[:300])
        if code not in peer.good_codes:
            return Measurement(workload.name, peer.name, died=f"exit code {code}: {metered.last_words()}")
        output = metered.output()
        reported = peer.reported(output, workload.protocol)
        seen = None if reported is None else (reported & sent.nonces).total()
        invented = 0 if reported is None else (reported - sent.nonces).total()
        return Measurement(
            workload.name,
            peer.name,
            sent.requests,
            sent.rate,
            spent,
            max(0.0, total - spent - idle),
            seen,
            invented,
            peer.dropped(metered.log, output),
            memory,
        )
    finally:
        metered.forget()


def packet_sockets(pod: Pod) -> int:
    """The number of receiving packet sockets in the pod's network namespace (column R of /proc/net/packet)."""
    lines = Path(f"/proc/{pod.host_pid}/net/packet").read_text().splitlines()[1:]
    return sum(line.split()[5] == "1" for line in lines)


def wait_at_rest(cpu: Callable[[], float], window: float = _REST, limit: float = SETTLE_LIMIT) -> float:
    """Wait until a program has been idle for `window` seconds. `cpu` returns the processor seconds that it has used so
    far, and so does this function. Raises WaitTimeout."""
    before, since = cpu(), time.monotonic()

    def resting() -> bool:
        nonlocal before, since
        if time.monotonic() - since < window:
            return False
        now = cpu()
        idle = now - before < _RESTING * (time.monotonic() - since)
        before, since = now, time.monotonic()
        return idle

    wait_until(resting, "the measured program to have nothing more to do", limit)
    return before


def own_cpu(pid: int) -> float:
    """Processor seconds of all threads of a process, also of ended ones. The resolution is a nanosecond, while the
    kernel's ticks have ten milliseconds."""
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0  # the process has ended, so its parent counts it in cutime and cstime


def _dead_cpu(pid: int) -> float:
    """cutime plus cstime in seconds: the ended children that were waited for (proc_pid_stat(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / _TICKS


def pss(pid: int) -> int:
    """Proportional set size of one process in KiB, without the rings that it shares with the kernel."""
    try:
        text = Path(f"/proc/{pid}/smaps").read_text()
    except OSError:
        return 0
    total, counted = 0, True
    for line in text.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counted = "socket:[" not in line
        elif line.startswith("Pss:") and counted:
            total += int(line.split()[1])
    return total
