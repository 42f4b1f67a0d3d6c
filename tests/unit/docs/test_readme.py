"""README.md: what it shows of the tapper's output is what the tapper prints for these requests."""

from __future__ import annotations

import re
from pathlib import Path

from harness.adapters.reference import tapper_argv
from harness.demo.steps import Scene
from harness.sandbox.node import Node
from harness.sandbox.process import MINIMAL_ENVIRON, Command
from harness.waiting import wait_until

README = (Path(__file__).resolve().parents[3] / "README.md").read_text()
COMMAND_LINE, *SHOWN = README.partition("```text\n$ tapper ")[2].partition("```")[0].splitlines()
WIDTH = 104
REQUESTS = (["/cart"], ["-d", '{"item": 7}', "/orders"], ["/orders/1"], ["/status/404"])
VARYING = re.compile(r"\d\d:\d\d:\d\d\.\d{3}|[\d.]+ m?s(?=  mTLS$)")
"""The time and the duration."""
COLOUR = re.compile("\x1b\\[[0-9;]*m")


def exchanges(lines: list[str]) -> list[str]:
    """The lines of requests without what varies, in an order that does not vary."""
    return sorted(re.sub(" +", " ", VARYING.sub("…", line)) for line in lines if "  ~  " not in line)


def on_the_wire(lines: list[str]) -> set[str]:
    """The lines of the wire without what varies. Envoy decides how many connections there are."""
    return {re.sub(" +", " ", VARYING.sub("…", line)) for line in lines if "  ~  " in line}


def test_the_output_of_tap_is_real(node: Node, tmp_path: Path) -> None:
    scene = Scene(node, 0)
    scene.mesh.inject(scene.client, scene.server)
    ready = tmp_path / "ready"
    start = ["sh", "-c", 'exec 9>"$1"; shift; exec "$@" --ready-fd 9', "sh", str(ready)]
    terminal = {**MINIMAL_ENVIRON, "COLUMNS": str(WIDTH)}
    argv = [*start, *tapper_argv(*COMMAND_LINE.split(), "--colour", "always")]
    tapper = node.spawn(Command(argv, env=terminal), name="tapper")
    wait_until(lambda: ready.exists() and ready.read_bytes(), "the tapper's capture in both pods")
    for *options, target in REQUESTS:
        scene.client.pod.run(["curl", "-s", *options, f"http://{scene.shop.ip}{target}"])

    def printed() -> list[str]:
        lines = COLOUR.sub("", tapper.read_log()).splitlines()
        return [line for line in lines if not line.startswith("tapper: ")]

    wait_until(lambda: len(exchanges(printed())) >= len(exchanges(SHOWN)), "a line for each request on both sides")
    assert tapper.stop() == 0
    assert exchanges(printed()) == exchanges(SHOWN)
    assert on_the_wire(printed()) == on_the_wire(SHOWN)
