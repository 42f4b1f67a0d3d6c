"""Running the demo and showing it: a table for a person, progress on a terminal, `--keep`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.adapters.reference import Record
from harness.demo import steps
from harness.demo.steps import Scene, StepOutcome
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

WIDTH = 118
_NUMBERS = ("none", "of one", "two", "three", "four", "five")
_TCPDUMP_NOTE = " (before version 4.99.4 tcpdump refuses to run here, as the root of a user namespace)"


def run(requests: int, keep: bool, console: Console) -> bool:
    """Play all steps; True if all of them hold."""
    began = time.monotonic()
    with Node() as node:
        outcomes = _play(node, requests, console)
        scene, results = outcomes
        holds = all(result.holds for result in results)
        console.print(_table(results))
        console.print(_exchanges([record for result in results for record in result.sample]))
        verdict = f"[green]All {_NUMBERS[len(results)]} hold.[/]" if holds else "[bold red]Not all of them hold.[/]"
        console.print(f"{verdict} {len(results)} steps, {requests} requests each, {time.monotonic() - began:.1f} s.")
        for step, why_not in steps.left_out().items():
            console.print(f"Left out: {_name(step)}, because {why_not}.")
        if keep:
            _linger(scene, console)
    return holds


def _play(node: Node, requests: int, console: Console) -> tuple[Scene, list[StepOutcome]]:
    results = []
    with console.status("starting three pods") as status:  # silent where the output is no terminal
        scene = Scene(node, requests)
        permitted = [step for step in steps.STEPS if step not in steps.left_out()]
        for number, step in enumerate(permitted, 1):
            status.update(f"{number} of {len(permitted)}: {_name(step)}")
            results.append(step(scene))
    return scene, results


def _name(step: Callable[[Scene], StepOutcome]) -> str:
    """The beginning of a step's documentation."""
    assert step.__doc__ is not None
    return step.__doc__.partition(":")[0]


def _table(results: list[StepOutcome]) -> Table:
    table = Table(title="Two pods, two real Envoys, one machine", title_justify="left", box=box.ROUNDED, width=WIDTH)
    table.add_column("#", justify="right")
    table.add_column("looked at", ratio=5)
    table.add_column("expected", ratio=4)
    table.add_column("seen", ratio=8)
    table.add_column("holds")
    for number, result in enumerate(results, 1):
        mark = "[green]yes[/]" if result.holds else "[bold red]NO[/]"
        table.add_row(str(number), result.title, result.expected, result.seen, mark, end_section=True)
    return table


def _exchanges(records: list[Record]) -> Table:
    table = Table(
        title="Some of what the tapper reported", title_justify="left", box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False
    )
    for name in ("pod", "direction", "from", "to", "method", "path", "status"):
        table.add_column(name, no_wrap=True, ratio=1 if name == "path" else None)
    for record in records:
        cells = (record[key] for key in ("pod_ip", "direction", "src", "dst", "method", "target", "status"))
        table.add_row(*(escape(str(cell)) for cell in cells))
    return table


def _linger(scene: Scene, console: Console) -> None:
    """Leave the mesh up until a signal comes, and print how to look around in it."""
    console.print("\nThe mesh stays up until you press Ctrl-C. In another terminal:\n")
    for what, command in look_around(scene):
        console.print(f"  [dim]# {what}[/]")
        console.print(f"  {escape(command)}\n", soft_wrap=True, highlight=False)
    sys.stdout.flush()
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    signal.sigwait(signals)
    console.print("Taking the mesh down.")


def look_around(scene: Scene) -> list[tuple[str, str]]:
    """Commands for another terminal, each with its purpose."""
    node = scene.node
    tapper = Path(sys.executable).with_name("tapper")
    return [
        ("a shell inside the server's pod", f"{_enter(scene.server.pod)} sh"),
        ("a request, from the client's pod", f"{_enter(scene.client.pod)} curl -s http://{scene.shop.ip}/hello"),
        (
            f"what the server's veth carries: TLS{_TCPDUMP_NOTE if node.single_id else ''}",
            f"{_enter(node)} tcpdump -Z root -nA -i {scene.server.pod.link} tcp",
        ),
        ("what the tapper makes of it", f"{_enter(node)} {tapper} tap --istio --targets {scene.server.ip}"),
        ("which Envoys the tapper finds, and why not others", f"{_enter(node)} {tapper} discover"),
    ]


def _enter(where: Node | Pod) -> str:
    user = "" if os.geteuid() == 0 else "--user --preserve-credentials "
    return f"nsenter --target {where.host_pid} {user}--mount --pid --net"
