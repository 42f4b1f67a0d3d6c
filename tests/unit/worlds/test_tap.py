"""What a scenario reads from a tapper's records, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterable

from harness.worlds.tap import Record, Tap
from harness.worlds.world import WorldPod

SERVER = WorldPod("server", ("10.0.0.1", "fd00::1"), "node", True)


class Told(Tap):
    """A tap that has said this."""

    def __init__(self, **records: list[Record]) -> None:
        self.records = records

    def records_by_node(self) -> dict[str, list[Record]]:
        return self.records

    def retarget(self, targets: Iterable[WorldPod]) -> None: ...

    def read_log(self) -> str:
        return "one: sentence\nanother: line\n"

    def ended(self) -> int | None:
        return None

    def kill(self) -> None: ...

    def resident_bytes(self) -> int:
        return 0

    def stop(self) -> None: ...


def source(state: str, netns: int, ip: str = "10.0.0.1") -> Record:
    return {"type": "source", "kind": "pod", "state": state, "netns": netns, "instance_ip": ip}


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
    tap = Told(
        a=[source("open", 1), source("open", 2, "10.0.0.2"), source("closed", 2, "10.0.0.2")],
        b=[source("open", 1, "10.0.0.3"), {"type": "hello"}, source("open", 7, "10.0.0.4")],
    )
    assert {each["instance_ip"] for each in tap.sources()} == {"10.0.0.1", "10.0.0.4"}
    assert tap.captures(SERVER)


def test_seen_counts_every_address_of_a_pod_and_no_probe() -> None:
    tap = Told(a=[http("/1"), http("/1", ip="fd00::1"), http("/2", ip="10.0.0.9"), http("/3", direction="node")])
    tap.records["a"].append(http("/healthz/ready", agent="kube-probe/1.34"))
    tap.records["a"].append(http(None) | {"request": None})  # an answer, whose question crossed before the capture
    assert tap.seen(SERVER) == {"/1": 2, "/3": 1}
    assert tap.seen(SERVER, "inbound") == {"/1": 2}
    assert tap.seen() == {"/1": 2, "/2": 1, "/3": 1}


def test_said_wants_all_parts_in_a_line() -> None:
    assert Told().said("one", "sentence") == ["one: sentence"]
    assert Told().said("one", "line") == []
