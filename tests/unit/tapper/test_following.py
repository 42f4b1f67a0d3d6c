"""What a look does where nothing has changed, and what makes the next one do more: played processes and namespaces."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tapper.discovery import census
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scan
from tapper.errors import TapperError
from tapper.follow import follower as following
from tapper.follow import owners
from tapper.follow.follower import Follower
from tapper.namespaces.enter import Visit
from tapper.output.sink import Console

POD, OTHER, STRANGER = (ip_address(f"10.0.0.{number}") for number in (1, 2, 3))


class Rings(dict[object, object]):
    """The open sources; they are closed at once."""

    def shut(self, key: object) -> None:
        del self[key]

    def watch(self, *_: object) -> None:
        """The kernel is not heard here."""


class World:
    """A node's processes, each in a network namespace of its own, and a follower that counts what it does."""

    def __init__(self, root: Path, finders: frozenset[Finder], monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        (root / "stat").touch()
        (root / "self").symlink_to("1")
        self.sources = Rings()
        self.opening: dict[str, TapperError] = {}
        """Of namespaces that cannot be captured in, by their files, why."""
        self.addresses: dict[str, frozenset[object]] = {}
        self.asked: list[str] = []
        self.opened: list[str] = []
        self.followed = 0
        monkeypatch.setattr(following, "check_following", lambda **_: None)  # none is used
        monkeypatch.setattr(following, "run_inside_each", self._open)
        monkeypatch.setattr(owners, "run_inside_each", self._ask)
        monkeypatch.setattr(owners, "run_inside", lambda path, *_: self._ask([Visit(path, None, None)])[0])  # type: ignore[arg-type]
        self.follower = Follower(
            Procfs(root),
            self.sources,  # type: ignore[arg-type]
            Console(io.StringIO()),
            lambda netns, ring, *_: self.sources.update({netns: ring}),
            self.sources.shut,
            frozenset({POD}),
            finders=finders,
        )
        follow = Follower._follow

        def counted(follower: Follower, found: Scan) -> None:
            self.followed += 1
            follow(follower, found)

        monkeypatch.setattr(Follower, "_follow", counted)

    def _open(self, visits: Sequence[Visit[Any]], _: int) -> list[object]:
        paths = [str(visit.path) for visit in visits]
        self.opened += paths
        return [self.opening.get(path, path) for path in paths]

    def _ask(self, visits: Sequence[Visit[Any]]) -> list[object]:
        paths = [str(visit.path) for visit in visits]
        self.asked += paths
        return [self.addresses[path] for path in paths]

    def process(self, pid: int, exe: str, address: object, environ: bytes = b"") -> str:
        """Begin one, and return its namespace's file."""
        folder = self.root / str(pid)
        (folder / "ns").mkdir(parents=True)
        (folder / "exe").symlink_to(exe)
        (folder / "environ").write_bytes(environ)
        netns = folder / "ns/net"
        netns.touch()
        self.addresses[str(netns)] = frozenset({address})
        return str(netns)

    def envoy(self, pid: int, address: object = POD) -> str:
        return self.process(pid, "/usr/local/bin/envoy", address, f"INSTANCE_IP={address}\0".encode())

    def looks(self, times: int = 1) -> int:
        """Look, and return how often something was done about it."""
        before = self.followed
        for _ in range(times):
            self.follower.look()
        return self.followed - before


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def made(*finders: Finder) -> World:
        worlds.append(World(tmp_path, frozenset(finders), monkeypatch))
        return worlds[-1]

    yield made
    for world in worlds:
        world.follower.release()


def test_nothing_is_done_as_long_as_nothing_changes(make: Callable[..., World]) -> None:
    world = make(Finder.ENVOY)
    netns = world.envoy(7)
    world.follower.begin()
    assert world.opened == [netns]
    assert world.looks(3) == 0
    world.process(8, "/bin/sleep", STRANGER)
    assert world.looks() == 1
    assert world.looks(3) == 0
    (world.root / "7/exe").unlink()
    (world.root / "7/exe").symlink_to("/bin/sleep")
    assert world.looks() == 1
    assert not world.sources


def test_who_is_awake_anyway_looks_early(make: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_what_cannot_be_opened_is_tried_again_at_every_look(make: Callable[..., World]) -> None:
    world = make(Finder.ENVOY)
    netns = world.envoy(7)
    world.opening[netns] = TapperError("no room")
    world.follower.begin()
    assert world.looks(2) == 2
    assert world.opened == [netns] * 3
    world.opening.clear()
    assert world.looks(3) == 1
    assert list(world.sources.values()) == [netns]


def test_a_source_that_was_closed_is_opened_again(make: Callable[..., World]) -> None:
    """Another Envoy may have begun while it was drained: that look found the namespace captured in."""
    world = make(Finder.ENVOY)
    netns = world.envoy(7)
    world.follower.begin()
    world.sources.clear()
    assert world.looks() == 0
    world.follower.look_soon()
    assert world.looks(3) == 1
    assert list(world.sources.values()) == [netns]


def test_other_targets_are_followed(make: Callable[..., World]) -> None:
    world = make(Finder.ENVOY)
    world.envoy(7)
    other = world.envoy(8, OTHER)
    world.follower.begin()
    world.follower.retarget(frozenset({OTHER}))
    assert not world.sources
    assert world.looks(3) == 1
    assert list(world.sources.values()) == [other]


def test_of_whose_death_nobody_tells_is_asked_at_every_look(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another node's procfs; also where it is nobody's turn."""
    monkeypatch.setattr(census, "_AGAIN", 0)
    monkeypatch.setattr(census, "YOUNG_S", -1.0)
    world = make(Finder.ENVOY)
    netns = world.envoy(7)
    world.follower.begin()
    assert list(world.sources.values()) == [netns]
    (world.root / "7/environ").write_bytes(b"")
    assert world.looks() == 1
    assert not world.sources


def test_namespaces_are_asked_when_their_answers_are_old(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is done about a stranger's until then. Those that are young are asked at every look."""
    monkeypatch.setattr(owners, "_ANSWER_HOLDS_S", 3600.0)
    world = make(Finder.NETNS)
    stranger = world.process(7, "/bin/sleep", STRANGER)
    world.follower.begin()
    assert world.looks(2) == 2
    monkeypatch.setattr(owners, "_YOUNG_S", -1.0)
    monkeypatch.setattr(owners, "_ANSWER_HOLDS_S", 0.0)
    assert world.looks(2) == 2
    assert world.asked == [stranger] * 5
    monkeypatch.setattr(owners, "_ANSWER_HOLDS_S", 3600.0)
    assert world.looks(3) == 1
    assert world.asked == [stranger] * 5
    world.addresses[stranger] = frozenset({STRANGER, POD})
    assert world.looks() == 0
    world.follower._given({POD})
    assert world.looks(3) == 1
    assert list(world.sources.values()) == [stranger]
