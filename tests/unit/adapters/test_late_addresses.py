"""`--discover netns`: a pod whose address comes after its first process, and one that gets another address."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from harness.adapters import reference
from harness.adapters.reference import RunningTapper
from harness.mesh import replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def played(pod: Pod, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080), [(request, ANSWER)]))


def give(pod: Pod, address: str) -> None:
    pod.run(["ip", "address", "add", address, "dev", "eth0"])


def test_an_address_that_comes_late(node: Node, tapper: StartTapper) -> None:
    """The namespace had other addresses when it was asked first. A stranger with such a change is left alone."""
    pod, stranger, canary = node.pod("server"), node.pod("stranger"), node.pod("canary")
    running = tapper(["10.77.0.1", canary], "--discover", "netns")
    running.wait_capturing(canary)
    assert pod.netns_inode not in running.open_sources()
    give(stranger, "10.77.0.2/32")
    give(pod, "10.77.0.1/32")
    running.wait_capturing(pod)
    for each in (stranger, pod):
        played(each, f"/{each.name}")
    running.wait_targets(["/server"])
    running.stop()
    assert running.seen() == {"/server": 1}


LATER_LOOKS = """
import sys
import tapper.follow.follower as following
from tapper.follow import pace
from tapper.follow import addresses
pace.SHORTEST_INTERVAL_S = pace.LONGEST_INTERVAL_S = {interval}
addresses.NEW_S, addresses.ANSWER_HOLDS_S = {young}, 3600.0
from tapper.follow import events
if not {events}:
    def refused(): raise PermissionError(1, "refused")
    events.address_events.subscribe = refused
{more}
from tapper.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def start_with(node: Node, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunningTapper]:
    """The reference tapper with other constants than it ships with, so that only one of its ways can be the one."""

    def start(targets: list[str], **constants: object) -> RunningTapper:
        program = LATER_LOOKS.format(**{"more": "", **constants})
        monkeypatch.setattr(reference, "tapper_argv", lambda *arguments: [sys.executable, "-c", program, *arguments])
        return RunningTapper(node, targets, "--discover", "netns")

    return start


def test_the_kernels_word_of_an_address_causes_a_look(node: Node, start_with: Callable[..., RunningTapper]) -> None:
    """Looks are an hour apart, and answers hold as long: only the event can have done it."""
    pod = node.pod("server")
    with start_with(["10.77.0.1"], interval=3600.0, young=0.0, events=True) as running:
        running.wait_capturing()
        give(pod, "10.77.0.1/32")
        running.wait_capturing(pod)


IN_BETWEEN = """
import pathlib, time
say_missing = following.MissingTargets.say_missing
def slow(*arguments):
    say_missing(*arguments)
    pathlib.Path("{folder}/looked").touch()
    while not pathlib.Path("{folder}/given").exists():
        time.sleep(0.001)
following.MissingTargets.say_missing = slow
"""


def test_an_address_that_comes_during_the_first_look(node: Node, start_with: Callable[..., RunningTapper]) -> None:
    """Too late for that look, and the next is an hour away: the event has been waited for since before it."""
    pod = node.pod("server")
    folder = node.run_dir / "between"
    folder.mkdir()
    more = IN_BETWEEN.format(folder=node.inside(folder))
    with start_with(["10.77.0.1"], interval=3600.0, young=0.0, events=True, more=more) as running:
        running.wait_for((folder / "looked").exists, "its first look")
        give(pod, "10.77.0.1/32")
        (folder / "given").touch()
        running.wait_capturing(pod)


def test_a_young_namespace_is_asked_at_every_look(node: Node, start_with: Callable[..., RunningTapper]) -> None:
    """Without events, and with answers that hold for an hour once a namespace is no longer young."""
    pod = node.pod("server")
    with start_with(["10.77.0.1"], interval=0.2, young=3600.0, events=False) as running:
        running.wait_capturing()
        give(pod, "10.77.0.1/32")
        running.wait_capturing(pod)
