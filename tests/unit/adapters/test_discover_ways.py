"""`tapper discover --discover …`: what each way finds, with claims, addresses and reasons side by side."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from named_programs import start_named

import tapper.output
from harness.adapters.reference import TAPPER_ENVIRON, Record, tapper_argv
from harness.mesh import fake_envoy
from harness.sandbox import links
from harness.sandbox.node import Node
from harness.sandbox.process import Command

SCHEMA = json.loads((Path(tapper.output.__file__).parent / "ndjson.schema.json").read_text())

LINKERD = "linkerd2-proxy"


def discovered(node: Node, *arguments: str) -> list[Record]:
    output = node.run(Command(tapper_argv("discover", "-o", "ndjson", *arguments), env=TAPPER_ENVIRON))
    records = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    for record in records:
        jsonschema.validate(record, SCHEMA)
    return records


def test_linkerd(node: Node) -> None:
    meshed, stranger, lookalike, sidecar = [node.pod(name) for name in ("meshed", "stranger", "lookalike", "sidecar")]
    ours, others = start_named(meshed, LINKERD, {}), start_named(stranger, LINKERD, {})
    start_named(lookalike, f"{LINKERD}-identity", {})
    fake_envoy.start(sidecar)
    on_node = node.spawn(["sleep", "1000"])
    told = {each["pid"]: each for each in discovered(node, "--discover", "linkerd", "--filter-authorities", meshed.ip)}
    assert set(told) == {ours.pid, others.pid}
    assert on_node.pid not in told
    found, refused = told[ours.pid], told[others.pid]
    assert (found["verdict"], found["found_by"], found["reason"]) == ("resident", "linkerd", None)
    assert (found["instance_ip"], found["owned"]) == (None, [meshed.ip, str(meshed.ipv6)])
    assert found["netns"] == meshed.netns_inode
    assert found["exe"].endswith(f"/{LINKERD}")
    assert (refused["verdict"], refused["reason"]) == (
        "not-a-target",
        "no address of its network namespace is a target",
    )


def test_netns_is_a_row_a_namespace(node: Node) -> None:
    pod, stranger, bare = node.pod("server"), node.pod("stranger"), node.pod("bare")
    pod.spawn(["sleep", "1000"])
    bare.run(["ip", "address", "flush", "dev", "eth0"])
    rows = discovered(node, "--discover", "netns", "--filter-authorities", str(pod.ipv6))
    told = {each["netns"]: each for each in rows}
    assert len(rows) == len(told) == 4
    assert {each["found_by"] for each in rows} == {"netns"}
    assert (told[pod.netns_inode]["verdict"], told[pod.netns_inode]["pid"]) == ("resident", pod.pause_pid)
    assert told[stranger.netns_inode]["verdict"] == "not-a-target"
    assert told[bare.netns_inode]["verdict"] == "no-address"
    (nodes,) = [each for each in rows if each["verdict"] == "node"]
    assert str(links.GATEWAY4) in nodes["owned"]
    everyone = {each["netns"]: each["verdict"] for each in discovered(node, "--discover", "netns")}
    assert everyone[stranger.netns_inode] == "resident"


def test_several_ways_beside_each_other(node: Node) -> None:
    """An Envoy that claims another's address, and its namespace: a row for each."""
    server, outsider = node.pod("server"), node.pod("outsider")
    liar = fake_envoy.start(outsider, instance_ip=server.ip)
    options = ["--discover", "netns", "--discover", "envoy", "--filter-authorities", server.ip]
    rows = [each for each in discovered(node, *options) if each["netns"] == outsider.netns_inode]
    assert sorted((each["pid"], each["found_by"], each["verdict"], each["verified"]) for each in rows) == sorted(
        [(outsider.pause_pid, "netns", "not-a-target", None), (liar.pid, "envoy", "envoy", False)]
    )
    table = node.run(Command(tapper_argv("discover", *options), env=TAPPER_ENVIRON)).splitlines()
    columns = next(line for line in table if line.startswith("PID "))
    column = columns.index("FOUND BY")
    (row,) = [line for line in table if line.startswith(f"{liar.pid} ")]
    assert row[column:].split()[:2] == ["envoy", "envoy"]
    (row,) = [line for line in table if line.startswith(f"{outsider.pause_pid} ")]
    assert row[column:].split()[:2] == ["netns", "not-a-target"]


@pytest.mark.parametrize("way", ["linkerd", "netns"])
def test_without_the_right_to_ask_it_says_so(node: Node, way: str) -> None:
    pod = node.pod("server")
    process = start_named(pod, LINKERD, {})
    argv = ["setpriv", "--bounding-set=-sys_admin", *tapper_argv("discover", "-o", "ndjson", "--discover", way)]
    output = node.run(Command(argv, env=TAPPER_ENVIRON)).splitlines()
    assert any("CAP_SYS_ADMIN" in line for line in output)
    rows = [json.loads(line) for line in output if line.startswith("{")]
    (row,) = [each for each in rows if each["netns"] == pod.netns_inode]
    assert (row["verdict"], row["owned"]) == ("unreadable", None)
    assert row["pid"] == (process.pid if way == "linkerd" else pod.pause_pid)
