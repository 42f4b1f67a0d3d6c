"""What a look reads again: of a procfs made of ordinary files, so that each read is counted; and of a real one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from harness.sandbox.node import Node
from harness.waiting import wait_until
from tapper.discovery import census as module
from tapper.discovery.births import Births
from tapper.discovery.census import Census
from tapper.discovery.envoy import Process
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scan, scan
from tapper.errors import ProcfsError
from tapper.namespaces.identity import namespace_of

TARGETS = frozenset({ip_address("10.0.0.1")})
OTHERS = frozenset({ip_address("10.0.0.2")})


class Node1:
    """A procfs that can be changed, and its census."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.census = Census()
        (root / "stat").touch()
        (root / "self").symlink_to("1")
        self.procfs = Procfs(root)
        self.read: list[int] = []
        """Of which the last look read all that there is to know."""
        self.asked: list[int] = []
        """Of which it asked whether they are still what they were."""

    def process(self, pid: int, exe: str = "/bin/sleep", environ: bytes = b"") -> None:
        """A new process, also in place of another one."""
        folder = self.root / str(pid)
        if folder.exists():
            folder.rename(self.root / f"gone-{pid}-{len(list(self.root.iterdir()))}")  # so that its inode stays taken
        (folder / "ns").mkdir(parents=True)
        (folder / "exe").symlink_to(exe)
        (folder / "ns/net").touch()
        (folder / "environ").write_bytes(environ)

    def envoy(self, pid: int, address: bytes = b"10.0.0.1") -> None:
        self.process(pid, "/usr/local/bin/envoy", b"A=1\0INSTANCE_IP=" + address + b"\0B=2\0")

    def exec(self, pid: int, exe: str, environ: bytes) -> None:
        """The same process begins another program."""
        folder = self.root / str(pid)
        (folder / "exe").unlink()
        (folder / "exe").symlink_to(exe)
        (folder / "environ").write_bytes(environ)

    def end(self, pid: int) -> None:
        shutil.rmtree(self.root / str(pid))

    def look(
        self, targets: frozenset[object] = TARGETS, *, finders: frozenset[Finder] = frozenset({Finder.ENVOY})
    ) -> Scan:
        self.read.clear()
        self.asked.clear()
        return scan(self.procfs, targets, finders=finders, census=self.census)  # type: ignore[arg-type]


@pytest.fixture
def node1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node1:
    made = Node1(tmp_path)
    snapshot, is_still = Procfs.snapshot, Procfs.is_still

    def counted(self: Procfs, pid: int, **options: object) -> object:
        made.read.append(pid)
        return snapshot(self, pid, **options)  # type: ignore[arg-type]

    def counted_too(self: Procfs, process: Process) -> bool:
        made.asked.append(process.pid)
        return is_still(self, process)

    monkeypatch.setattr(Procfs, "snapshot", counted)
    monkeypatch.setattr(Procfs, "is_still", counted_too)
    return made


@pytest.fixture
def nobody_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "YOUNG_S", -1.0)


@pytest.fixture
def some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(module, "_AGAIN", count)


def pids(found: Scan) -> list[int]:
    return [envoy.pid for envoy in found.envoys]


@pytest.mark.usefixtures("nobody_is_young")
def test_what_is_known_is_not_read_again_but_in_turn(node1: Node1, some_at_a_time: Callable[[int], None]) -> None:
    some_at_a_time(3)
    for pid in range(10, 20):
        node1.process(pid)
    node1.look()
    assert node1.read == list(range(10, 20))
    turns: list[int] = []
    for _ in range(10):
        assert node1.look().seen == frozenset(range(10, 20))
        assert not node1.read
        assert len(node1.asked) == 3
        turns += node1.asked
    assert sorted(turns) == sorted(list(range(10, 20)) * 3)


@pytest.mark.usefixtures("nobody_is_young")
def test_a_proxys_turn_costs_more(node1: Node1, some_at_a_time: Callable[[int], None]) -> None:
    some_at_a_time(10)
    for pid in range(10, 20):
        node1.envoy(pid)
    assert pids(node1.look()) == list(range(10, 20))
    assert pids(node1.look()) == list(range(10, 20))
    assert len(node1.asked) == 2
    assert not node1.read


@pytest.mark.usefixtures("nobody_is_young")
def test_new_processes_are_read_and_those_that_went_are_forgotten(
    node1: Node1, some_at_a_time: Callable[[int], None]
) -> None:
    some_at_a_time(0)
    node1.envoy(10)
    node1.process(11)
    assert pids(node1.look()) == [10]
    node1.envoy(12)
    assert pids(node1.look()) == [10, 12]
    assert node1.read == [12]
    node1.end(10)
    found = node1.look()
    assert pids(found) == [12]
    assert found.seen == frozenset({11, 12})
    assert not node1.read
    node1.end(11)
    node1.end(12)
    node1.look()
    for kept in vars(node1.census).values():
        assert not kept or kept == TARGETS or isinstance(kept, Scan)


@pytest.mark.usefixtures("nobody_is_young")
def test_a_number_that_went_to_another_process(node1: Node1, some_at_a_time: Callable[[int], None]) -> None:
    some_at_a_time(0)
    node1.process(10)
    node1.envoy(11)
    assert pids(node1.look()) == [11]
    node1.envoy(10)
    node1.process(11)
    assert pids(node1.look()) == [10]


def test_the_young_are_read_at_every_look_until_they_are_proxies(
    node1: Node1, some_at_a_time: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    some_at_a_time(0)
    node1.process(10, "/usr/bin/runc")
    node1.process(11)
    assert pids(node1.look()) == []
    assert node1.read == [10, 11]
    for _ in range(2):
        assert pids(node1.look()) == []
        assert node1.asked == [10, 11]
    node1.exec(10, "/usr/local/bin/envoy", b"")  # in the middle of execve(2)
    assert pids(node1.look()) == []
    node1.exec(10, "/usr/local/bin/envoy", b"INSTANCE_IP=10.0.0.1\0")
    assert pids(node1.look()) == [10]
    assert node1.read == [10]
    assert pids(node1.look()) == [10]
    assert node1.asked == [11]
    monkeypatch.setattr(module, "YOUNG_S", -1.0)
    node1.look()
    assert node1.asked == []


@pytest.mark.usefixtures("nobody_is_young")
def test_who_is_doubted_is_read(node1: Node1, some_at_a_time: Callable[[int], None]) -> None:
    some_at_a_time(0)
    for pid in (10, 11, 12):
        node1.process(pid)
    node1.look()
    node1.exec(11, "/usr/local/bin/envoy", b"INSTANCE_IP=10.0.0.1\0")
    node1.census.doubt(4711)
    node1.census.doubt(11)
    assert pids(node1.look()) == [11]
    assert node1.read == [11]
    node1.census.doubt_all()
    node1.look()
    assert node1.read == [10, 11, 12]
    node1.look()
    assert node1.read == []


@pytest.mark.usefixtures("nobody_is_young")
def test_other_targets_need_no_other_reading(node1: Node1, some_at_a_time: Callable[[int], None]) -> None:
    some_at_a_time(0)
    node1.envoy(10)
    node1.envoy(11, b"10.0.0.2")
    assert pids(node1.look()) == [10]
    assert pids(node1.look(OTHERS)) == [11]
    assert pids(node1.look(TARGETS | OTHERS)) == [10, 11]
    assert [refused.pid for refused in node1.look().refused] == [11]
    assert node1.read == []


@pytest.mark.usefixtures("nobody_is_young")
def test_all_residents_are_known_although_not_all_are_read(node1: Node1, some_at_a_time: Callable[[int], None]) -> None:
    some_at_a_time(0)
    for pid in (12, 10):
        node1.process(pid)
    netns = frozenset({Finder.NETNS})
    node1.look(finders=netns)
    found = node1.look(finders=netns)
    assert {candidate.pid for candidate in found.candidates} == {10, 12}
    assert found.residents == {namespace_of(node1.root / f"{pid}/ns/net"): [(pid, "/bin/sleep")] for pid in (10, 12)}


@pytest.mark.usefixtures("nobody_is_young")
def test_a_large_environment_is_not_kept(node1: Node1) -> None:
    node1.process(10, "/bin/envoy", b"X=" + b"x" * 1_000_000 + b"\0INSTANCE_IP=10.0.0.1\0")
    node1.look()
    assert node1.census.notable[10].environ == b"INSTANCE_IP=10.0.0.1"


@pytest.mark.usefixtures("nobody_is_young")
def test_a_look_that_fails_loses_nothing(node1: Node1, some_at_a_time: Callable[[int], None]) -> None:
    some_at_a_time(0)
    node1.envoy(10)
    node1.process(11)
    node1.look()
    node1.exec(11, "/usr/local/bin/envoy", b"INSTANCE_IP=10.0.0.1\0")
    node1.census.doubt(11)
    (node1.root / "stat").unlink()
    with pytest.raises(ProcfsError):
        node1.look()
    (node1.root / "stat").touch()
    assert pids(node1.look()) == [10, 11]


class CountedBirths(Births):
    """Told by hand."""

    def __init__(self, procfs: Procfs) -> None:
        super().__init__(procfs)
        self.told: int | None = 1

    def newest(self) -> int | None:
        return self.told


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One for each time that the processes were listed."""
    found: list[str] = []
    listing = Procfs.listing

    def counted(self: Procfs) -> dict[str, int]:
        found.append(str(self))
        return listing(self)

    monkeypatch.setattr(Procfs, "listing", counted)
    return found


@pytest.mark.usefixtures("nobody_is_young")
def test_as_long_as_nobody_is_born_nobody_is_listed(
    node1: Node1, some_at_a_time: Callable[[int], None], listings: list[str]
) -> None:
    some_at_a_time(0)
    births = CountedBirths(node1.procfs)
    node1.census = Census(births)
    node1.process(10)
    node1.look()
    node1.look()
    assert len(listings) == 1
    births.told = 2
    node1.envoy(11)
    assert pids(node1.look()) == [11]
    assert len(listings) == 2
    node1.end(11)
    node1.census.doubt(11)  # its death was told
    found = node1.look()
    assert not pids(found)
    assert found.seen == frozenset({10})
    births.told = None
    node1.envoy(12)
    assert pids(node1.look()) == [12]


@pytest.mark.usefixtures("nobody_is_young")
def test_whoever_has_ended_is_listed_no_more(node1: Node1, listings: list[str]) -> None:
    """Also where nobody is born: it is asked about once, not for ever."""
    node1.census = Census(CountedBirths(node1.procfs))
    node1.process(10)
    node1.process(11)
    node1.look()
    node1.end(11)
    assert node1.look().seen == frozenset({10})
    assert len(listings) == 2
    node1.look()
    assert node1.asked == [10]
    assert len(listings) == 2


@pytest.mark.usefixtures("nobody_is_young")
def test_a_procfs_that_goes_away_ends_nobody(node1: Node1) -> None:
    """Nobody is born there, and all seem to have ended: that is no evidence."""
    node1.census = Census(CountedBirths(node1.procfs))
    node1.envoy(10)
    node1.look()
    away = node1.root.with_name("away")
    node1.root.rename(away)
    node1.root.mkdir()
    for _ in range(2):
        with pytest.raises(ProcfsError):
            node1.look()
    node1.root.rmdir()
    away.rename(node1.root)
    assert pids(node1.look()) == [10]


@pytest.mark.usefixtures("nobody_is_young")
def test_where_nothing_has_changed_a_look_finds_what_the_last_one_found(
    node1: Node1, some_at_a_time: Callable[[int], None]
) -> None:
    some_at_a_time(0)
    node1.envoy(10)
    node1.envoy(11, b"10.0.0.2")
    first = node1.look()
    assert node1.look() is first
    node1.census.doubt(10)
    assert node1.look() is first, "it was read, and is what it was"
    assert pids(node1.look(OTHERS)) == [11]
    assert pids(node1.look()) == [10]
    node1.process(12)
    second = node1.look()
    assert second.seen == {10, 11, 12}
    assert node1.look() is second
    node1.process(12)
    assert node1.look() is not second, "the number went to another process, which is as like as two peas"


@pytest.mark.usefixtures("nobody_is_young")
def test_what_becomes_of_a_known_proxy_is_noticed(node1: Node1, tmp_path: Path) -> None:
    """The same process, by turns: another environment, another namespace, another program."""
    node1.envoy(10)
    assert pids(node1.look()) == [10]
    assert pids(node1.look()) == [10]
    assert node1.asked == [10]
    assert not node1.read
    node1.exec(10, "/usr/local/bin/envoy", b"INSTANCE_IP=10.0.0.2\0INSTANCE_IP=10.0.0.1\0")
    assert pids(node1.look()) == []
    assert pids(node1.look(OTHERS)) == [10]
    (node1.root / "10/ns/other").touch()
    (node1.root / "10/ns/other").rename(node1.root / "10/ns/net")
    (envoy,) = node1.look(OTHERS).envoys
    assert envoy.netns == namespace_of(node1.root / "10/ns/net")
    node1.exec(10, "/bin/sleep", b"INSTANCE_IP=10.0.0.2\0")
    assert pids(node1.look(OTHERS)) == []


@pytest.mark.usefixtures("nobody_is_young")
def test_nobody_tells_of_their_deaths(node1: Node1, some_at_a_time: Callable[[int], None]) -> None:
    some_at_a_time(0)
    for pid in (10, 11):
        node1.envoy(pid)
    node1.look()
    node1.census.attend({11, 4711})
    node1.look()
    assert node1.asked == [11]
    node1.exec(11, "/bin/sleep", b"")
    assert pids(node1.look()) == [10]


def test_births_are_the_nodes_own(node: Node) -> None:
    """A process in a PID namespace below counts, too: its number is one here as well."""
    program = (
        "import os, subprocess, sys\n"
        "from tapper.discovery.births import Births\n"
        "from tapper.discovery.procfs import Procfs\n"
        "births = Births(Procfs())\n"
        "before = births.newest()\n"
        "assert before == births.newest() and before is not None, before\n"
        "subprocess.run(sys.argv[1:], check=True)\n"
        "assert births.newest() != before\n"
        "births.close()\n"
    )
    repository = str(Path(__file__).resolve().parents[3])
    for argv in (["true"], ["unshare", "--pid", "--fork", "true"]):
        node.run(["env", f"PYTHONPATH={repository}", sys.executable, "-c", program, *argv])


def test_another_nodes_procfs_tells_of_no_births(node: Node) -> None:
    births = Births(Procfs(node.procfs))
    assert births.newest() is None
    births.close()


def test_births_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    """A procfs that shows no loadavg, or another system's."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"NSpid:\t{os.getpid()}\n")
    births = Births(Procfs(tmp_path))
    assert births.newest() is None
    (tmp_path / "loadavg").write_text("no numbers\n")
    assert births.newest() is None
    (tmp_path / "loadavg").write_text("0.97 1.15 1.31 2/119 9\n")
    assert births.newest() == 9
    before = len(os.listdir("/proc/self/fd"))
    births.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_the_kernels_inodes_stay_and_change_with_the_process(node: Node) -> None:
    """What pid reuse is told by. The number is chosen, and taken by the next process."""
    procfs = Procfs(node.procfs)
    first = node.spawn(["sleep", "1d"])
    before = procfs.listing()
    assert procfs.listing()[str(first.pid)] == before[str(first.pid)]
    first.stop()
    node.forget(first)
    wait_until(lambda: str(first.pid) not in procfs.listing(), "the process to be gone")

    def again() -> bool:
        node.choose_next_pid(first.pid)
        second = node.spawn(["sleep", "1d"])
        return second.pid == first.pid

    wait_until(again, "the number to be used again")
    assert procfs.listing()[str(first.pid)] != before[str(first.pid)]
    assert os.readlink(node.procfs / str(first.pid) / "exe").endswith("/sleep")
