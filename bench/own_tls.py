"""The cost of `tapper tap --tls` for the applications that it reads, for others that share their library, and for
itself. `script/bench --tls`.

Two Python programs in two pods make small exchanges over TLS. Three runs follow each other: without a tapper; with a
tapper whose target is a third pod, so that the programs only pay for sharing the library's file; and with both pods as
targets. The ratios count, since all runs are made on the same machine in the same minute.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.measure import own_cpu, wait_at_rest
from bench.result import load_average
from harness.adapters.reference import RunningTapper
from harness.errors import HarnessError
from harness.mesh.own_tls.ends import PORT, TlsProgram, certificate_file
from harness.sandbox import uprobes
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.waiting import wait_until

RATE = 5000
_PROGRAM = Path(__file__).with_name("programs") / "tls_load.py"
_CALLS = 2
"""Calls of the library that each program makes for an exchange."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One run."""

    what: str
    exchanges: int
    seconds: float
    application_s: float
    """Processor time of both programs."""
    tapper_s: float = 0.0
    seen: int = 0
    """Reports, two for each exchange."""
    lost: int = 0
    """Pieces of plaintext that found no room, as the tapper counts them."""

    @property
    def call_us(self) -> float:
        """Microseconds of processor time for each call of the library, with what Python does around it."""
        return self.application_s / self.exchanges / (2 * _CALLS) * 1e6


def measure(exchanges: int) -> Iterator[Cost]:
    """The three runs. Raises HarnessError where the kernel permits no probes or a program fails."""
    why_not = uprobes.refusal()
    if why_not is not None:
        raise HarnessError(f"--tls cannot be measured: {why_not}")
    with Node() as node:
        pods = client, server, other = [node.pod(name) for name in ("client", "server", "other")]
        with TlsProgram(other):  # so that the other pod has mapped the same library
            yield _run("no tapper", client, server, exchanges)
            for what, targets in (("another pod is the target", [other]), ("both pods are targets", pods[:2])):
                with RunningTapper(node, targets, "--discover", "netns", "--tls", "--body-limit", "0") as running:
                    running.wait_reading_tls(*targets)
                    processor_time = partial(own_cpu, running.process.host_pid)
                    before = processor_time()
                    cost = _run(what, client, server, exchanges)
                    spent = wait_at_rest(processor_time) - before
                yield _with_tapper(cost, spent, running)


def _run(what: str, client: Pod, server: Pod, exchanges: int) -> Cost:
    serving = server.spawn(_argv("serve", certificate_file(server.node), str(PORT)))
    wait_until(lambda: "ready" in serving.read_log(), "the server to listen", logs=serving.read_log)
    asking = client.spawn(_argv("ask", server.ip, str(PORT), str(exchanges), str(RATE)))
    reports = []
    for process in (asking, serving):
        code, log = process.finish(60 + exchanges / RATE)
        if code != 0:
            raise HarnessError(f"{process.name} ended with {code}:\n{log}")
        reports.append(json.loads(log.splitlines()[-1]))
    return Cost(what, exchanges, reports[0]["seconds"], sum(report["cpu_seconds"] for report in reports))


def _with_tapper(cost: Cost, spent: float, running: RunningTapper) -> Cost:
    lost = sum(record["dropped"] for record in running.of_type("stat") if record.get("interface") == "tls")
    return replace(cost, tapper_s=spent, seen=_reports(running), lost=lost)


def _reports(running: RunningTapper) -> int:
    return sum(1 for record in running.of_type("http") if "plaintext" in record and record["status"] == 200)


def _argv(*arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(_PROGRAM), *arguments]


def table(costs: list[Cost]) -> str:
    """A Markdown table."""
    base = costs[0].call_us
    lines = [
        "| run | a call of the library, with its caller | ratio | exchanges a second | the tapper for each "
        "exchange | seen twice | lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        tapper = f"{cost.tapper_s / cost.exchanges * 1e6:.1f} µs" if cost.tapper_s else "-"
        share = f"{cost.seen / cost.exchanges / 2:.2%}" if cost.seen else "-"
        lines.append(
            f"| {cost.what} | {cost.call_us:.1f} µs | {cost.call_us / base:.2f} | {cost.exchanges / cost.seconds:,.0f} "
            f"| {tapper} | {share} | {cost.lost} |"
        )
    return "\n".join([*lines, "", f"Load average of the machine: {load_average()}.", ""])
