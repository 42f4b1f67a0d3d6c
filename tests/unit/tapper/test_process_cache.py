"""What a scan reads again, and what it makes of that: of a procfs made of ordinary files, and of a real one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Set
from ipaddress import ip_address
from pathlib import Path

import pytest

from harness.sandbox.node import Node
from harness.waiting import wait_until
from tapper.discovery import process_cache
from tapper.discovery.envoy import ProcessSnapshot
from tapper.discovery.finders import Finder
from tapper.discovery.process_cache import ProcessCache
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scan, Scanner
from tapper.errors import ProcfsError
from tapper.namespaces.identity import namespace_of
from tapper.targets.addresses import Address
from tapper.targets.pods import PodName

TARGETS = frozenset({ip_address("10.0.0.1")})
OTHERS = frozenset({ip_address("10.0.0.2")})


class FakeProcfs:
    """A procfs that can be changed, and the scanner of it."""

    def __init__(self, root: Path, finders: Set[Finder] = frozenset({Finder.ENVOY})) -> None:
        self.root = root
        (root / "stat").touch()
        (root / "self").symlink_to("1")
        self.scanner = Scanner(Procfs(root), finders)

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

    def exec(self, pid: int, exe: str = "/usr/local/bin/envoy", environ: bytes = b"INSTANCE_IP=10.0.0.1\0") -> None:
        """The same process begins another program."""
        folder = self.root / str(pid)
        (folder / "exe").unlink()
        (folder / "exe").symlink_to(exe)
        (folder / "environ").write_bytes(environ)

    def end(self, pid: int) -> None:
        shutil.rmtree(self.root / str(pid))

    def scan(self, targets: frozenset[Address] = TARGETS) -> Scan:
        return self.scanner.scan(targets)

    def is_starting(self) -> bool:
        return self.scanner.execve_under_way

    def envoys(self, targets: frozenset[Address] = TARGETS) -> list[int]:
        return [envoy.pid for envoy in self.scan(targets).envoys]


class Clock:
    """A played one."""

    now = 1000.0


@pytest.fixture
def fake(tmp_path: Path) -> FakeProcfs:
    return FakeProcfs(tmp_path)


@pytest.fixture
def nothing_is_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_cache, "RECENT_S", -1.0)


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda size: monkeypatch.setattr(process_cache, "BATCH", size)


@pytest.mark.usefixtures("nothing_is_recent")
def test_every_process_has_its_turn(fake: FakeProcfs, batch: Callable[[int], None]) -> None:
    """Ten processes become Envoys that nobody was told of; each scan finds some of them."""
    batch(3)
    for pid in range(10, 20):
        fake.process(pid)
    assert fake.envoys() == []
    for pid in range(10, 20):
        fake.exec(pid)
    counts: list[int] = []
    while len(counts) < 10 and counts[-1:] != [10]:
        counts.append(len(fake.envoys()))
        assert fake.scan().pids == frozenset(range(10, 20))
    assert counts[0] in {1, 2, 3}
    assert counts[-1] == 10
    assert counts == sorted(counts)


@pytest.mark.usefixtures("nothing_is_recent")
def test_the_reads_of_a_scan_are_bounded() -> None:
    """A process that is no proxy counts as one, a proxy as five."""
    read: list[int] = []

    def note(pid: int) -> ProcessSnapshot:
        read.append(pid)
        return (
            ProcessSnapshot(pid, "/bin/envoy", b"INSTANCE_IP=10.0.0.1")
            if pid < 1000
            else ProcessSnapshot(pid, "/bin/sleep")
        )

    inodes = {str(pid): pid for pid in range(1, 5000)}
    cache = ProcessCache(inodes.copy, note)
    cache.refresh()
    assert sorted(read) == list(range(1, 5000))
    costs = []
    for _ in range(60):
        read.clear()
        cache.refresh()
        costs.append(sum(5 if pid < 1000 else 1 for pid in read))
    assert min(costs) > 0
    assert max(costs) < process_cache.BATCH + 5


@pytest.mark.usefixtures("nothing_is_recent")
def test_among_few_processes_every_one_is_read_at_each_scan(fake: FakeProcfs) -> None:
    for pid in range(10, 60):
        fake.process(pid)
    assert fake.envoys() == []
    for pid in range(10, 40):
        fake.exec(pid)
    assert fake.envoys() == list(range(10, 40))


@pytest.mark.usefixtures("nothing_is_recent")
def test_new_processes_are_read_and_those_that_ended_are_forgotten(
    fake: FakeProcfs, batch: Callable[[int], None]
) -> None:
    batch(0)
    fake.envoy(10)
    fake.process(11)
    assert fake.envoys() == [10]
    fake.envoy(12)
    assert fake.envoys() == [10, 12]
    fake.end(10)
    assert fake.envoys() == [12]
    assert fake.scan().pids == {11, 12}
    fake.end(11)
    fake.end(12)
    assert fake.scan().pids == frozenset()
    assert not fake.scanner.cache.processes


@pytest.mark.usefixtures("nothing_is_recent")
def test_a_number_that_went_to_another_process(fake: FakeProcfs, batch: Callable[[int], None]) -> None:
    batch(0)
    fake.process(10)
    fake.envoy(11)
    assert fake.envoys() == [11]
    fake.envoy(10)
    fake.process(11)
    assert fake.envoys() == [10]


def test_recent_processes_are_read_at_every_scan(
    fake: FakeProcfs, batch: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch(0)
    fake.process(10, "/usr/bin/runc")
    assert fake.envoys() == []
    fake.exec(10)
    assert fake.envoys() == [10]
    monkeypatch.setattr(process_cache, "RECENT_S", -1.0)
    fake.exec(10, "/bin/sleep", b"")
    assert fake.envoys() == [10], "it is no longer read: nothing else was what found it above"


@pytest.mark.usefixtures("nothing_is_recent")
def test_an_invalid_process_is_read(fake: FakeProcfs, batch: Callable[[int], None]) -> None:
    batch(0)
    for pid in (10, 11, 12):
        fake.process(pid)
    assert fake.envoys() == []
    for pid in (10, 11, 12):
        fake.exec(pid)
    fake.scanner.cache.invalidate({4711, 11})
    assert fake.envoys() == [11]
    assert fake.envoys() == [11]
    fake.scanner.cache.invalidate(None)
    assert fake.envoys() == [10, 11, 12]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    played = Clock()
    monkeypatch.setattr("time.monotonic", lambda: played.now)
    monkeypatch.setattr(process_cache, "BATCH", 0)
    return played


def test_an_invalid_process_is_recent_again(fake: FakeProcfs, clock: Clock) -> None:
    """An exec event comes in the middle of execve(2): what the process is may show only at the scan after the next."""
    fake.process(10)
    fake.scan()
    clock.now += 100
    fake.exec(10, environ=b"")
    assert not fake.is_starting()
    fake.scanner.cache.invalidate({10})
    assert fake.envoys() == []
    assert fake.is_starting()
    fake.exec(10)
    clock.now += 5
    assert fake.envoys() == [10]
    assert not fake.is_starting()


def test_an_envoy_without_an_environment_is_not_waited_for_for_long(fake: FakeProcfs, clock: Clock) -> None:
    fake.process(10, "/bin/envoy")
    fake.scan()
    assert fake.is_starting()
    clock.now += 2
    fake.scan()
    assert not fake.is_starting()


@pytest.mark.parametrize("environ", [b"", b"_pod_name=cart\0_pod_ns=shop\0"])
def test_a_linkerd_proxy_is_found_with_its_name_or_without_one_later(
    tmp_path: Path, clock: Clock, environ: bytes
) -> None:
    """In the middle of execve(2) it has no name yet, and a source that is opened then would never get it."""
    fake = FakeProcfs(tmp_path, frozenset({Finder.LINKERD}))
    fake.process(10, "/usr/lib/linkerd/linkerd2-proxy", environ)
    found = [(each.pid, each.pod) for each in fake.scan().candidates]
    assert found == ([(10, PodName("shop", "cart"))] if environ else [])
    clock.now += 2
    assert [each.pid for each in fake.scan().candidates] == [10]


@pytest.mark.usefixtures("nothing_is_recent")
def test_other_targets_need_no_other_reading(fake: FakeProcfs, batch: Callable[[int], None]) -> None:
    batch(0)
    fake.envoy(10)
    fake.envoy(11, b"10.0.0.2")
    assert fake.envoys() == [10]
    assert fake.envoys(OTHERS) == [11]
    assert fake.envoys(TARGETS | OTHERS) == [10, 11]
    assert [refused.pid for refused in fake.scan().refused] == [11]


@pytest.mark.usefixtures("nothing_is_recent")
def test_all_residents_are_known_although_not_all_are_read(tmp_path: Path, batch: Callable[[int], None]) -> None:
    batch(0)
    fake = FakeProcfs(tmp_path, frozenset({Finder.NETNS}))
    for pid in (12, 10):
        fake.process(pid)
    fake.scan()
    fake.process(11)
    scan = fake.scan()
    assert {candidate.pid for candidate in scan.candidates} == {10, 11, 12}
    own = {namespace_of(fake.root / f"{pid}/ns/net"): [(pid, "/bin/sleep")] for pid in (10, 11, 12)}
    assert scan.residents == own


@pytest.mark.usefixtures("nothing_is_recent")
def test_a_scan_that_fails_loses_nothing(fake: FakeProcfs, batch: Callable[[int], None]) -> None:
    batch(0)
    fake.envoy(10)
    fake.process(11)
    fake.scan()
    fake.exec(11)
    fake.scanner.cache.invalidate({11})
    (fake.root / "stat").unlink()
    for _ in range(2):
        with pytest.raises(ProcfsError):
            fake.scan()
    (fake.root / "stat").touch()
    assert fake.envoys() == [10, 11]


@pytest.mark.usefixtures("nothing_is_recent")
def test_where_nothing_has_changed_the_last_scan_is_returned(fake: FakeProcfs) -> None:
    fake.envoy(10)
    fake.envoy(11, b"10.0.0.2")
    first = fake.scan()
    assert fake.scan() is first
    fake.scanner.cache.invalidate({10})
    assert fake.scan() is first, "it was read, and is unchanged"
    assert fake.envoys(OTHERS) == [11]
    assert fake.envoys() == [10]
    fake.process(12)
    second = fake.scan()
    assert second.pids == {10, 11, 12}
    assert fake.scan() is second
    fake.process(12)
    assert fake.scan() is not second, "the number went to another process, which is no different"


@pytest.mark.usefixtures("nothing_is_recent")
def test_a_known_proxy_that_changes_is_noticed(fake: FakeProcfs) -> None:
    """The same process, in turn: another environment, another namespace, another program."""
    fake.envoy(10)
    assert fake.envoys() == [10]
    fake.exec(10, environ=b"INSTANCE_IP=10.0.0.2\0INSTANCE_IP=10.0.0.1\0")
    assert fake.envoys() == []
    assert fake.envoys(OTHERS) == [10]
    (fake.root / "10/ns/other").touch()
    (fake.root / "10/ns/other").rename(fake.root / "10/ns/net")
    (envoy,) = fake.scan(OTHERS).envoys
    assert envoy.netns == namespace_of(fake.root / "10/ns/net")
    fake.exec(10, "/bin/sleep", b"INSTANCE_IP=10.0.0.2\0")
    assert fake.envoys(OTHERS) == []


@pytest.mark.usefixtures("nothing_is_recent")
def test_processes_that_are_always_checked(fake: FakeProcfs, batch: Callable[[int], None]) -> None:
    batch(0)
    for pid in (10, 11):
        fake.envoy(pid)
    fake.scan()
    fake.scanner.cache.always_check = {11, 4711}
    for pid in (10, 11):
        fake.exec(pid, "/bin/sleep", b"")
    assert fake.envoys() == [10]


def test_the_kernels_inodes_stay_and_change_with_the_process(node: Node) -> None:
    """How a process id that is used again is noticed. The number is chosen, and taken by the next process."""
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
