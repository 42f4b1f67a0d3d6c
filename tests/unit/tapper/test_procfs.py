"""A procfs made of ordinary files: vanishing processes, unreadable ones, leaders that have gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import termios
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from harness.waiting import wait_until
from tapper.discovery import procfs
from tapper.discovery.envoy import ProcessSnapshot, Unreadable
from tapper.discovery.finders import Finder, Verdict
from tapper.discovery.process_memory import ProcessMemory
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scan, Scanner, unexamined
from tapper.errors import MissingCapabilityError, ProcfsError
from tapper.namespaces import privileges
from tapper.namespaces.identity import namespace_of
from tapper.targets.addresses import Address

TARGETS = frozenset({ip_address("10.0.0.1")})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "stat").touch()
    (tmp_path / "self").symlink_to("1")
    (tmp_path / "sys").mkdir()
    return tmp_path


def scan(procfs: Procfs, targets: frozenset[Address], *, detail: bool = False) -> Scan:
    return Scanner(procfs, {Finder.ENVOY}, detail=detail).scan(targets)


def make(folder: Path, exe: str | None, environ: bytes = b"", name: str = "x") -> Path:
    (folder / "ns").mkdir(parents=True)
    if exe is not None:
        (folder / "exe").symlink_to(exe)
        (folder / "ns/net").touch()
    (folder / "environ").write_bytes(environ)
    (folder / "comm").write_text(name + "\n")
    (folder / "cmdline").write_bytes(name.encode() + b"\0-c\0")
    return folder


def envoy(folder: Path, environ: bytes = b"INSTANCE_IP=10.0.0.1\0") -> Path:
    return make(folder, "/usr/local/bin/envoy", environ, "envoy")


def test_a_process_is_read_whole(root: Path) -> None:
    folder = envoy(root / "7")
    assert Procfs(root).snapshot(7, detail=True) == ProcessSnapshot(
        7, "/usr/local/bin/envoy", b"INSTANCE_IP=10.0.0.1", namespace_of(folder / "ns/net"), "envoy", "envoy"
    )


def test_without_detail_others_cost_one_link(root: Path) -> None:
    make(root / "7", "/bin/sleep", b"INSTANCE_IP=10.0.0.1\0")
    assert Procfs(root).snapshot(7, detail=False) == ProcessSnapshot(7, "/bin/sleep")


def test_the_leader_has_gone_but_threads_live(root: Path) -> None:
    make(root / "7", None)
    make(root / "7/task/7", None)
    thread = envoy(root / "7/task/9")
    found = Procfs(root).snapshot(7, detail=False)
    assert found is not None
    assert (found.exe, found.netns) == ("/usr/local/bin/envoy", namespace_of(thread / "ns/net"))
    assert Procfs(root).namespace_path(7) == f"{root}/7/task/9/ns/net"
    assert Procfs(root).exe(7) == "/usr/local/bin/envoy"
    assert [envoy.pid for envoy in scan(Procfs(root), TARGETS).envoys] == [7]


def test_kernel_threads_and_zombies_have_no_executable(root: Path) -> None:
    make(root / "2/task/2", None)
    assert Procfs(root).snapshot(2, detail=False) == ProcessSnapshot(2, None)


def test_a_process_that_has_vanished_is_none(root: Path) -> None:
    assert Procfs(root).snapshot(4711, detail=True) is None
    assert Procfs(root).exe(4711) is None
    assert Procfs(root).netns(4711) is None


def test_a_process_that_vanishes_while_it_is_read_is_no_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    envoy(root / "7")

    def gone(_memory: ProcessMemory, path: str, _most: int | None = None) -> bytes:
        raise ProcessLookupError(3, "No such process", path)

    monkeypatch.setattr(ProcessMemory, "read", gone)
    found = Procfs(root).snapshot(7, detail=True)
    assert found is not None
    assert found.environ is None
    assert scan(Procfs(root), TARGETS).envoys == ()


def test_a_scan(root: Path) -> None:
    envoy(root / "10")
    envoy(root / "9")
    envoy(root / "11", b"INSTANCE_IP=10.0.0.2\0")
    make(root / "12", "/bin/pilot-agent", b"INSTANCE_IP=10.0.0.1\0")
    make(root / "13", "/bin/sleep")
    found = scan(Procfs(root), TARGETS)
    assert [envoy.pid for envoy in found.envoys] == [9, 10]
    assert [(refused.pid, refused.verdict) for refused in found.refused] == [(11, Verdict.NOT_A_TARGET)]
    assert (set(found.pids), set(found.unreadable)) == ({9, 10, 11, 12, 13}, set())
    detailed = scan(Procfs(root), TARGETS, detail=True)
    assert [(refused.pid, refused.verdict) for refused in detailed.refused] == [
        (11, Verdict.NOT_A_TARGET),
        (12, Verdict.LOOK_ALIKE),
        (13, Verdict.OTHER),
    ]


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Have readlink of a path refused, as for another user's process (permissions would not stop root)."""
    denied: set[str] = set()
    readlink = os.readlink

    def guarded(path: str | Path) -> str:
        if str(path) in denied:
            raise PermissionError(13, "Permission denied", str(path))
        return readlink(path)

    monkeypatch.setattr(os, "readlink", guarded)
    return lambda path: denied.add(str(path))


def test_what_cannot_be_read_is_counted(root: Path, deny: Callable[[Path], None]) -> None:
    envoy(root / "7")
    envoy(root / "8")
    deny(root / "8/exe")
    found = scan(Procfs(root), TARGETS)
    assert [envoy.pid for envoy in found.envoys] == [7]
    assert found.unreadable == {8}
    assert Procfs(root).snapshot(8, detail=False) == ProcessSnapshot(8, Unreadable(13))
    assert Procfs(root).exe(8) is None


def test_what_cannot_be_read_for_want_of_a_thread_is_not_laid_on_a_security_module(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    envoy(root / "7")
    monkeypatch.setattr(privileges, "missing", frozenset)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    sentence = unexamined(scan(Procfs(root), TARGETS))
    assert "1 process could not be examined" in sentence
    assert "AppArmor" not in sentence
    assert sentence.endswith("as long as reading it fails: resource temporarily unavailable")


@pytest.mark.parametrize("link", ["exe", "ns/net"])
def test_a_process_that_ends_while_it_is_read_is_not_unreadable(
    root: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    """The kernel answers EACCES for its links, as a security module does for those of a living process."""

    def ended(read: Callable[[str], object]) -> Callable[[str], object]:
        def guarded(path: str) -> object:
            if path.endswith(f"/8/{link}"):
                shutil.rmtree(root / "8")
                raise PermissionError(13, "Permission denied", path)
            return read(path)

        return guarded

    envoy(root / "7")
    make(root / "8", "/bin/sh")
    monkeypatch.setattr(os, "readlink", ended(os.readlink))
    monkeypatch.setattr(procfs, "namespace_of", ended(namespace_of))
    assert Scanner(Procfs(root), {Finder.NETNS}).scan(TARGETS).unreadable == set()


@pytest.mark.parametrize("size", [65_536, 1_000_000])
def test_a_large_environment_is_read_whole_and_little_of_it_is_kept(root: Path, size: int) -> None:
    envoy(root / "7", b"A=" + b"x" * size + b"\0INSTANCE_IP=10.0.0.1\0_pod_name=" + b"y" * size)
    process = Procfs(root).snapshot(7, detail=False)
    assert process is not None
    assert process.environ == b"INSTANCE_IP=10.0.0.1\0_pod_name=" + b"y" * 256
    assert [found.pid for found in scan(Procfs(root), TARGETS).envoys] == [7]


def test_the_kernel_counts_threads_as_links() -> None:
    """What that rests on (proc_task_getattr). Threads that ended before take a moment to be gone."""
    task = Path("/proc/self/task")
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: task.stat().st_nlink == procfs.ONE_THREAD - 1 + len(list(task.iterdir())), "links to be threads")
    assert task.stat().st_nlink >= procfs.ONE_THREAD + len(threads)
    stop.set()
    for thread in threads:
        thread.join()


def test_nothing_but_oneself_readable_is_an_error(root: Path, deny: Callable[[Path], None]) -> None:
    make(root / "1", "/usr/bin/python3")
    make(root / "2/task/2", None)
    for pid in (7, 8):
        deny(envoy(root / str(pid)) / "exe")
    with pytest.raises(MissingCapabilityError, match="CAP_SYS_PTRACE"):
        scan(Procfs(root), TARGETS)


def test_nobody_else_there_is_no_error(root: Path) -> None:
    make(root / "1", "/usr/bin/python3")
    assert scan(Procfs(root), TARGETS).envoys == ()


def test_what_is_no_procfs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcfsError, match=r"cannot read the procfs at .*/nowhere: no such file or directory"):
        Procfs(tmp_path / "nowhere").listing()
    with pytest.raises(ProcfsError, match="is not a procfs"):
        Procfs(tmp_path).listing()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ProcfsError, match="not a directory"):
        Procfs(file).listing()


def test_only_numbers_are_processes(root: Path) -> None:
    for name in ("12", "7", "007x", "\u0661", "bus"):
        (root / name).mkdir()
    assert Procfs(root).listing() == {name: (root / name).stat().st_ino for name in ("7", "12")}


def test_whose_numbers_they_are(root: Path) -> None:
    folder = make(root / "1", "/usr/bin/python3")
    assert not Procfs(root).numbers_are_ours()
    for value, ours in ((f"{os.getpid()}", True), (f"9999\t{os.getpid()}", False), ("1", os.getpid() == 1)):
        (folder / "status").write_text(f"Name:\tx\nNSpid:\t{value}\n")
        assert Procfs(root).numbers_are_ours() is ours


def test_the_real_procfs_shows_this_process() -> None:
    own = Procfs()
    assert own.own_pid() == os.getpid()
    assert own.numbers_are_ours()
    found = own.snapshot(os.getpid(), detail=True)
    assert found is not None
    assert found.exe == os.readlink("/proc/self/exe")
    assert found.netns == namespace_of("/proc/self/ns/net")
    assert isinstance(found.environ, bytes)


def test_a_file_that_comes_in_pieces_is_read_to_its_end(root: Path) -> None:
    """read(2) on environ returns a page or less at a time: a pipe does the same, to whoever asks once only."""
    folder = make(root / "7", "/usr/local/bin/envoy")
    (folder / "environ").unlink()
    os.mkfifo(folder / "environ")
    pieces = [b"A=" + b"x" * 5000 + b"\0", b"INSTANCE", b"_IP=10.0.", b"0.1\0"]

    def write() -> None:
        with (folder / "environ").open("wb", buffering=0) as pipe:
            for piece in pieces:
                pipe.write(piece)
                wait_until(lambda: not unread(pipe.fileno()), "the piece to be read")

    writer = threading.Thread(target=write)
    writer.start()
    found = Procfs(root).snapshot(7, detail=False)
    writer.join()
    assert found is not None
    assert found.environ == b"INSTANCE_IP=10.0.0.1"


def unread(pipe: int) -> int:
    """FIONREAD (ioctl_tty(2)): bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
