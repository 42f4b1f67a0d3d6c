"""What a scenario reads from a tapper's records, wherever they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from harness.adapters import reference
from harness.adapters.observed import Output
from harness.adapters.records import Records
from harness.adapters.reference import Addressed, Record, ReferenceTapper
from harness.adapters.running import Ending, Running
from harness.adapters.targets import Target
from harness.worlds.model import WorldPod

SERVER = WorldPod("server", ("10.0.0.1", "fd00::1"), "node", True)


class Told(Running):
    """A tapper whose processes have reported these records, each on a node, and written these words."""

    def __init__(self, *runs: tuple[str, list[Record]]) -> None:
        super().__init__(reference.adapter(), [])
        self._runs = runs

    @property
    def running(self) -> bool:
        return True

    @property
    def returncode(self) -> int | None:
        return None

    def ended(self) -> str | None:
        return None

    def outputs(self) -> Sequence[tuple[str, Output]]:
        outputs = []
        for node, records in self._runs:
            output = Records()
            output.feed("".join(json.dumps(record) + "\n" for record in records).encode())
            outputs.append((node, output))
        return outputs

    def read_log(self) -> str:
        return "one: sentence\nanother: line\n"

    def _update(self, targets: Sequence[Target]) -> None: ...

    def stop(self, _patience: float = 1.0) -> Ending:
        return Ending()

    def save(self) -> None: ...


class Reading(ReferenceTapper):
    def __init__(self, *runs: tuple[str, list[Record]]) -> None:
        self.running = Told(*runs)

    def retarget(self, targets: Iterable[Addressed]) -> None: ...

    def kill(self) -> None: ...

    def resident_bytes(self) -> int:
        return 0

    def stop(self) -> int:
        return 0


def source(state: str, netns: int, ip: str = "10.0.0.1") -> Record:
    return {"type": "source", "kind": "pod", "state": state, "netns": netns, "interface": "lo", "instance_ip": ip}


def http(target: str | None, ip: str = "10.0.0.1", direction: str = "inbound", agent: str = "tapper-harness") -> Record:
    headers = [["User-Agent", agent]]
    return {
        "type": "http",
        "pod_ip": ip,
        "direction": direction,
        "target": target,
        "request": {"headers": headers},
    }


def test_sources_are_those_that_are_open_on_each_node() -> None:
    """Two nodes number their namespaces alike; another process begins with none."""
    tap = Reading(
        ("a", [source("open", 1), source("open", 2, "10.0.0.2"), source("closed", 2, "10.0.0.2")]),
        ("b", [source("open", 1, "10.0.0.3"), {"type": "hello"}, source("open", 7, "10.0.0.4")]),
    )
    assert {each["instance_ip"] for each in tap.sources()} == {"10.0.0.1", "10.0.0.4"}
    assert tap.captures(SERVER)


def test_the_sources_of_a_killed_process_are_not_open() -> None:
    killed = ("node", [source("open", 1)])
    assert not Reading(killed, ("node", [])).captures(SERVER)
    assert Reading(killed, ("node", [source("open", 1)])).captures(SERVER)


def test_seen_counts_every_address_of_a_pod_and_no_probe() -> None:
    probe = http("/healthz/ready", agent="kube-probe/1.34")
    answer = http(None) | {"request": None}  # its request crossed before the capture began
    other = http("/2", ip="10.0.0.9")
    tap = Reading(("a", [http("/1"), http("/1", ip="fd00::1"), other, http("/3", direction="wire"), probe, answer]))
    assert tap.seen(SERVER) == {"/1": 2, "/3": 1}
    assert tap.seen(SERVER, "inbound") == {"/1": 2}
    assert tap.seen() == {"/1": 2, "/2": 1, "/3": 1}


def test_said_wants_all_parts_in_a_line() -> None:
    assert Reading().said("one", "sentence") == ["one: sentence"]
    assert Reading().said("one", "line") == []
