"""Which sources a follower opens and closes, and when it tries again: played processes and namespaces."""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tapper.discovery import address_events, process_cache
from tapper.discovery.address_events import AddressEvents
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.errors import TapperError
from tapper.follow import addresses
from tapper.follow import follower as following
from tapper.follow.follower import Follower
from tapper.namespaces.enter import Visit
from tapper.namespaces.identity import NamespaceId, namespace_of
from tapper.output.console import Console

POD, OTHER, STRANGER = (ip_address(f"10.0.0.{number}") for number in (1, 2, 3))


class Rings(dict[object, object]):
    """The open sources; they are closed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callable[[], None]] = []

    def shut(self, key: object) -> None:
        del self[key]

    def watch(self, _descriptor: int, _events: int, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)


class World:
    """A node's processes, each in a network namespace of its own, and a follower whose visits are noted."""

    def __init__(self, root: Path, finders: frozenset[Finder], monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        (root / "stat").touch()
        (root / "self").symlink_to("1")
        self.sources = Rings()
        self.failure: TapperError | None = None
        """Why no namespace can be captured in."""
        self.addresses: dict[NamespaceId, frozenset[object]] = {}
        self.asked: list[NamespaceId] = []
        self.opened: list[NamespaceId] = []
        self.kernel, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        monkeypatch.setattr(address_events, "subscribe", lambda: AddressEvents(self._ours))
        monkeypatch.setattr(following, "check_following", lambda **_: None)  # none is used
        monkeypatch.setattr(following, "run_inside_each", self._open)
        monkeypatch.setattr(addresses, "run_inside_each", self._ask)
        monkeypatch.setattr(addresses, "run_inside", lambda _, netns, __: self.addresses[netns])
        self.follower = Follower(
            Procfs(root),
            self.sources,  # type: ignore[arg-type]
            Console(io.StringIO()),
            lambda netns, ring, *_: self.sources.update({netns: ring}),
            self.sources.shut,
            frozenset({POD}),
            finders=finders,
        )

    def _open(self, visits: Sequence[Visit[Any]], _: int) -> list[object]:
        self.opened += [visit.expected for visit in visits]
        return [self.failure or visit.expected for visit in visits]

    def _ask(self, visits: Sequence[Visit[Any]]) -> list[object]:
        self.asked += [visit.expected for visit in visits]
        return [self.addresses[visit.expected] for visit in visits]

    def process(self, pid: int, exe: str, address: object, environ: bytes = b"") -> NamespaceId:
        """Begin one, and return its namespace."""
        folder = self.root / str(pid)
        (folder / "ns").mkdir(parents=True)
        (folder / "exe").symlink_to(exe)
        (folder / "environ").write_bytes(environ)
        (folder / "ns/net").touch()
        netns = namespace_of(folder / "ns/net")
        self.addresses[netns] = frozenset({address})
        return netns

    def envoy(self, pid: int, address: object = POD) -> NamespaceId:
        return self.process(pid, "/usr/local/bin/envoy", address, f"INSTANCE_IP={address}\0".encode())

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.follower.look()

    def give(self, address: bytes) -> None:
        """The kernel notifies of an interface's new address."""
        body = struct.pack("=BBBBIHH", 2, 24, 0, 0, 2, 8, 1) + address
        self.kernel.send(struct.pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body)
        for callback in self.sources.callbacks:
            callback()

    def close(self) -> None:
        self.follower.release()
        self.kernel.close()
        self._ours.close()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def made(*finders: Finder) -> World:
        worlds.append(World(tmp_path, frozenset(finders), monkeypatch))
        return worlds[-1]

    yield made
    for world in worlds:
        world.close()


def test_an_envoy_is_captured_once_and_no_longer_when_it_is_another_program(make: Callable[..., World]) -> None:
    world = make(Finder.ENVOY)
    netns = world.envoy(7)
    world.follower.begin()
    world.process(8, "/bin/sleep", STRANGER)
    world.look(3)
    assert world.opened == [netns]
    assert list(world.sources) == [netns]
    (world.root / "7/exe").unlink()
    (world.root / "7/exe").symlink_to("/bin/sleep")
    world.look()
    assert not world.sources


def test_an_awake_tapper_looks_early(make: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    follower = make(Finder.ENVOY).follower
    follower.begin()
    for look in (lambda: None, follower.look):
        look()
        assert now + 0.6 < follower.next_look <= now + 0.8
        now += 0.45
        assert not follower.is_due()
        now += 0.1
        assert follower.is_due()
        assert follower.next_look > now
    follower.look()
    assert not follower.is_due()
    follower.look_soon()
    assert follower.is_due()


def test_a_namespace_that_cannot_be_captured_is_tried_again_at_each_look(make: Callable[..., World]) -> None:
    world = make(Finder.ENVOY)
    netns = world.envoy(7)
    world.failure = TapperError("no room")
    world.follower.begin()
    world.look(2)
    assert world.opened == [netns] * 3
    world.failure = None
    world.look(3)
    assert world.opened == [netns] * 4
    assert list(world.sources) == [netns]


def test_a_source_that_was_closed_is_opened_again(make: Callable[..., World]) -> None:
    """Another Envoy may have begun while it was drained: that look found the namespace captured."""
    world = make(Finder.ENVOY)
    netns = world.envoy(7)
    world.follower.begin()
    world.sources.clear()
    world.follower.look_soon()
    world.look(3)
    assert list(world.sources) == [netns]
    assert world.opened == [netns] * 2


def test_other_targets_are_followed(make: Callable[..., World]) -> None:
    world = make(Finder.ENVOY)
    world.envoy(7)
    other = world.envoy(8, OTHER)
    world.follower.begin()
    world.follower.retarget(frozenset({OTHER}))
    assert not world.sources
    world.look(3)
    assert list(world.sources) == [other]


def test_a_process_of_another_node_is_read_at_each_look(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else tells of its end; also where it is not recent and has no turn."""
    monkeypatch.setattr(process_cache, "BATCH", 0)
    monkeypatch.setattr(process_cache, "RECENT_S", -1.0)
    world = make(Finder.ENVOY)
    netns = world.envoy(7)
    world.follower.begin()
    assert list(world.sources) == [netns]
    (world.root / "7/environ").write_bytes(b"")
    world.look()
    assert not world.sources


def test_namespaces_are_asked_when_their_answers_are_old(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New namespaces are asked at each look, others when their answer is old or an interface is given an address."""
    monkeypatch.setattr(addresses, "ANSWER_HOLDS_S", 3600.0)
    world = make(Finder.NETNS)
    stranger = world.process(7, "/bin/sleep", STRANGER)
    world.follower.begin()
    world.asked.clear()
    world.look(2)
    assert world.asked == [stranger] * 2
    monkeypatch.setattr(addresses, "NEW_S", -1.0)
    monkeypatch.setattr(addresses, "ANSWER_HOLDS_S", 0.0)
    world.look(2)
    assert world.asked == [stranger] * 4
    monkeypatch.setattr(addresses, "ANSWER_HOLDS_S", 3600.0)
    world.look(3)
    assert world.asked == [stranger] * 4
    world.addresses[stranger] = frozenset({STRANGER, POD})
    world.look()
    assert not world.sources
    world.give(bytes((10, 0, 0, 2)))
    world.look()
    assert not world.sources, "the address is no target"
    planned = world.follower.next_look
    world.give(POD.packed)
    assert world.follower.next_look < planned
    world.look(3)
    assert list(world.sources) == [stranger]
