"""Exec events end to end: an Envoy that begins while nobody looks is captured, so it was the kernel that told.

The kernel gives them in its initial user namespace only, so this tapper runs on the machine itself and not in a node.
It concerns nobody else: its target is an address made up for the test, on the machine it listens to `lo` only, and it
is kept from asking other people's network namespaces anything. The Envoy and its pod are in a node, as ever.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.adapters.reference import TAPPER_ENVIRON, Record
from harness.mesh import fake_envoy, replay
from harness.sandbox.node import Node
from harness.waiting import wait_until
from tapper.discovery.exec_events import subscribe
from tapper.namespaces.privileges import missing

pytestmark = pytest.mark.usefixtures("exec_events")

LOOKING_ONCE = """
import sys
import tapper.follow.follower as following
from tapper.follow import pace
pace.SHORTEST_INTERVAL_S = pace.LONGEST_INTERVAL_S = 3600.0
following.MissingTargets.say_missing = lambda *_: None
if {deaf}:
    following.KernelEvents.watch_execs = lambda *_: None
from tapper.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def exec_events() -> None:
    if missing():
        pytest.skip("a tapper on the machine itself needs root, and an ordinary user's nodes get no exec events")
    try:
        subscribe().close()
    except OSError as error:
        pytest.skip(f"this machine gives no exec events here: {error}")


@pytest.fixture
def address() -> str:
    """A unique local address (RFC 4193) that is nobody's."""
    return f"fd{secrets.token_hex(1)}:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"


@contextmanager
def tapping(address: str, *, deaf: bool = False) -> Iterator[list[Record]]:
    """The records of a tapper that looks at all processes once, and then only when something happens."""
    argv = [sys.executable, "-c", LOOKING_ONCE.format(deaf=deaf), "tap", "--istio", "-i", "lo", "-o", "ndjson"]
    records: list[Record] = []
    with subprocess.Popen(
        [*argv, "--filter-authorities", address], env=TAPPER_ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                records.append(json.loads(line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            wait_until(lambda: [each for each in records if each["type"] == "source"], "the tapper's first source")
            yield records
        finally:
            process.terminate()
            process.wait(10)
            reader.join(10)


def opened(records: list[Record]) -> list[int]:
    return [each["netns"] for each in list(records) if (each["type"], each.get("kind")) == ("source", "pod")]


def test_an_envoy_that_begins_is_captured_though_nobody_looks(node: Node, address: str) -> None:
    pod = node.pod("server")
    with tapping(address) as records:
        fake_envoy.start(pod, instance_ip=address)
        wait_until(lambda: opened(records) == [pod.netns_inode], "the source of the new Envoy")
        exchange = (b"GET /told HTTP/1.1\r\nHost: shop\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        replay.play(pod, replay.conversation(replay.inbound(pod, 8080), [exchange]))
        wait_until(lambda: [each for each in list(records) if each["type"] == "http"], "an exchange")
    assert [each["target"] for each in records if each["type"] == "http"] == ["/told"]


def test_without_exec_events_nobody_looks(node: Node, address: str) -> None:
    """The canary: an Envoy that was there from the beginning is captured, one that begins is not; so it is no scan,
    nor another event, that finds it above."""
    early, late = node.pod("early"), node.pod("late")
    fake_envoy.start(early, instance_ip=address)
    with tapping(address, deaf=True) as records:
        wait_until(lambda: opened(records) == [early.netns_inode], "the source of the Envoy that was there")
        fake_envoy.start(late, instance_ip=address)
        exchange = (b"GET /canary HTTP/1.1\r\nHost: shop\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        replay.play(early, replay.conversation(replay.inbound(early, 8080), [exchange]))
        wait_until(lambda: [each for each in list(records) if each["type"] == "http"], "an exchange")
        assert opened(records) == [early.netns_inode]
