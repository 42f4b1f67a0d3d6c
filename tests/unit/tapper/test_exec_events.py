"""Exec events: their records, the kernel's own where this machine gives them, and the scans that they cause."""

from __future__ import annotations

import io
import os
import re
import secrets
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.sandbox.process import MINIMAL_ENVIRON
from harness.waiting import wait_until
from tapper.capture.sources import Sources
from tapper.discovery import exec_events, process_cache
from tapper.discovery.exec_events import ExecEvents, parse, subscribe
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.follow import follower as following
from tapper.follow.follower import Follower
from tapper.output.console import Console

COMM, EXEC, LOST, FORK, MMAP = 3, 0x2000, 2, 7, 1
ENV = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(harness.__file__).parents[1])}


def record(kind: int, flags: int, pid: int) -> bytes:
    return struct.pack("=IHHIIQ", kind, flags, 24, pid, pid + 1, 0)


def test_the_process_of_each_exec() -> None:
    """A thread that calls execve becomes its process's only one: the thread group is what procfs lists."""
    raw = record(FORK, 0, 5) + record(COMM, EXEC, 77) + record(COMM, 0, 6) + record(COMM, EXEC | 1, 9)
    assert list(parse(raw)) == [(77, ""), (9, "")]
    assert list(parse(b"")) == []


def test_missing_records_are_noticed() -> None:
    assert list(parse(record(LOST, 0, 3) + record(COMM, EXEC, 77))) == [None, (77, "")]
    assert list(parse(record(COMM, EXEC, 77) + record(COMM, EXEC, 78)[:-1])) == [(77, ""), None]
    assert list(parse(record(COMM, EXEC, 77) + bytes(8))) == [(77, ""), None]


def mapping(pid: int, name: bytes) -> bytes:
    body = struct.pack("=IIQQQ", pid, pid + 1, 0x7F00, 4096, 0) + name + bytes(8 - len(name) % 8)
    return struct.pack("=IHH", MMAP, 2, 8 + len(body)) + body


def test_the_process_of_each_mapping_of_a_file_that_is_looked_for() -> None:
    """By the file's own name, and not by that of its folder."""
    raw = mapping(5, b"/usr/lib/libssl.so.3") + mapping(6, b"/opt/ssl/libz.so.1") + record(COMM, EXEC, 7)
    assert list(parse(raw, re.compile(b"ssl"))) == [(5, ""), (7, "")]
    assert list(parse(raw)) == [(7, "")]


def test_the_path_of_each_program() -> None:
    """The file that a process maps first after its exec. Records of other processes may come in between."""
    raw = record(COMM, EXEC, 7) + record(COMM, EXEC, 8) + mapping(7, b"/app/x") + mapping(8, b"/app/y")
    raw += mapping(7, b"/lib/ld.so") + mapping(9, b"/app/z")
    expected = [(7, ""), (8, ""), (7, "/app/x"), (8, "/app/y")]
    assert list(parse(raw, re.compile(b"ssl"))) == expected


@given(st.binary(max_size=150))
def test_any_bytes_are_read(noise: bytes) -> None:
    """Nothing raises or hangs, and a record before noise is still found."""
    list(parse(noise))
    assert next(parse(record(COMM, EXEC, 77) + noise)) == (77, "")


@pytest.fixture
def events() -> Iterator[ExecEvents]:
    try:
        opened = subscribe()
    except OSError as error:
        if os.geteuid() == 0 and os.environ.get("CI"):
            raise
        pytest.skip(f"no exec events here: {error}")
    yield opened
    opened.close()


def readable(events: ExecEvents) -> bool:
    return bool(select.select([events.fileno()], [], [], 0)[0])


def test_the_kernels_own_events(events: ExecEvents) -> None:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]) as child:
        seen: set[int] = set()

        def reported() -> bool:
            if readable(events):
                seen.update(events.pids() or ())
            return child.pid in seen

        wait_until(reported, "the exec of a child")
        assert child.pid not in (events.pids() or ()), "it was reported already"


FLOOD = """
import os, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for _ in range(5000):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
"""


def test_the_kernels_own_mappings(events: ExecEvents) -> None:
    """A library that a process maps long after it began."""
    mapped = subscribe(re.compile(b"^libanl"))
    try:
        mapped.pids()
        code = "import ctypes; print(flush=True); input(); ctypes.CDLL('libanl.so.1'); input()"
        argv = [sys.executable, "-I", "-S", "-c", code]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            assert (mapped.programs() or {})[process.pid] == os.path.realpath(sys.executable)
            process.stdin.write(b"\n")
            process.stdin.flush()
            wait_until(lambda: process.pid in (mapped.programs() or ()), "the record of the library")
            process.communicate(b"\n")
    finally:
        mapped.close()


def test_more_records_than_there_is_room_for(events: ExecEvents) -> None:
    """The kernel says that records are missing only once there is room again: a full ring may lack some, too."""
    subprocess.run([sys.executable, "-c", FLOOD], check=True)
    assert events.pids() is None


def test_a_flood_of_records_wakes_seldom_and_none_is_lost(events: ExecEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many wake-ups the descriptor is quiet until a pause is over; the exec in between is found then."""
    monkeypatch.setattr(exec_events, "PAUSE_S", 0.5)
    for _ in range(10 * exec_events.WAKE_UPS):
        events.pids()
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]) as child:
        child.wait()
        assert not readable(events)
        wait_until(lambda: readable(events), "the end of the pause")
        assert child.pid in (events.pids() or ())


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user gets no exec events")
@pytest.mark.usefixtures("events")
def test_other_namespaces(tmp_path: Path) -> None:
    """In a network and a PID namespace of its own the tapper is notified, too, with the process ids there."""
    body = """
import select, subprocess
from tapper.discovery.exec_events import subscribe
events = subscribe()
child = subprocess.Popen(["true"])
child.wait()
found = set()
while child.pid not in found and select.select([events.fileno()], [], [], 10)[0]:
    found |= events.pids()
print(child.pid, child.pid in found)
"""
    argv = ["unshare", "--net", "--pid", "--fork", "--mount-proc", sys.executable, "-c", body]
    done = subprocess.run(argv, env=ENV, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "2 True\n", done.stderr


def test_in_a_user_namespace_the_subscription_is_refused() -> None:
    """So that the tapper knows that it has to scan, and does not wait for events that never come."""
    if int(Path("/proc/sys/kernel/perf_event_paranoid").read_text()) <= 0:
        pytest.skip("this machine gives exec events to everybody (kernel.perf_event_paranoid)")
    body = "from tapper.discovery.exec_events import subscribe\ntry: subscribe()\nexcept OSError as e: print(type(e))"
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", body]
    done = subprocess.run(argv, env=ENV, capture_output=True, text=True, check=False, timeout=60)
    assert "PermissionError" in done.stdout, done.stderr


def test_a_refused_subscription_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):  # noqa: PT011 - no such processor, or no right
        ExecEvents([0, 1 << 20])
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "x", "6", "x", "vax")))
    with pytest.raises(OSError, match="no known number on vax"):
        subscribe()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def envoy(tmp_path: Path) -> Iterator[int]:
    """The pid of a process whose executable is named envoy."""
    interpreter = os.path.realpath(sys.executable)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\n")
    shutil.copy(interpreter, tmp_path / "envoy")
    with subprocess.Popen([tmp_path / "envoy", "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child.pid
        child.kill()


class FakeEvents(ExecEvents):
    """Exec events by hand, through a pipe."""

    def __init__(self) -> None:
        super().__init__([])
        self.reading, self.writing = os.pipe()

    def fileno(self) -> int:
        return self.reading

    def report(self, pid: int) -> None:
        os.write(self.writing, struct.pack("=i", pid))

    def pids(self) -> set[int] | None:
        pid = struct.unpack("=i", os.read(self.reading, 4))[0]
        return None if pid < 0 else {pid}

    def close(self) -> None:
        super().close()
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def fake_events(monkeypatch: pytest.MonkeyPatch) -> FakeEvents:
    played = FakeEvents()
    monkeypatch.setattr(exec_events, "subscribe", lambda: played)
    monkeypatch.setattr(following, "check_following", lambda **_: None)  # nothing is captured
    return played


def follower(procfs: Procfs, sources: Sources[Any], finder: Finder = Finder.ENVOY) -> Follower:
    return Follower(
        procfs,
        sources,
        Console(io.StringIO()),
        lambda *_: pytest.fail("a source was opened"),
        lambda _: pytest.fail("a source was dropped"),
        frozenset(),
        finders=frozenset({finder}),
    )


def test_an_exec_of_an_envoy_causes_a_look_and_others_do_not(envoy: int, fake_events: FakeEvents) -> None:
    """Of a process that is no proxy, of one that is gone, then of an Envoy; and where some are not known."""
    sources: Sources[Any] = Sources()
    following = follower(Procfs(), sources)
    try:
        following.begin()

        def wait_after(pid: int) -> float:
            """How long until the next look, in seconds, once the event has been read."""
            following.next_look = time.monotonic() + 3600
            fake_events.report(pid)
            sources.turn(5.0, *[lambda *_: pytest.fail("a source said something")] * 3)
            return following.next_look - time.monotonic()

        assert wait_after(os.getpid()) > 1800
        assert wait_after(2**22 + 1) > 1800
        assert wait_after(envoy) < 1800
        assert wait_after(-1) < 1800
    finally:
        following.release()


class OpenSources(dict[object, object]):
    """The open sources, and a loop for descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, descriptor: int, _events: int, callback: Callable[[], None]) -> None:
        self._callbacks[descriptor] = callback

    def unwatch(self, descriptor: int) -> None:
        del self._callbacks[descriptor]

    def shut(self, key: object) -> None:
        del self[key]

    def turn(self) -> None:
        for descriptor in select.select(list(self._callbacks), [], [], 0)[0]:
            self._callbacks[descriptor]()


def runs(pid: int, program: Path, expected: bool) -> bool:
    """Whether a process runs a program, or another one, and its execve(2) is complete."""
    process = Path(f"/proc/{pid}")
    return ((process / "exe").resolve() == program) is expected and process.joinpath("environ").read_bytes() != b""


@pytest.mark.skipif(os.geteuid() != 0, reason="setns needs CAP_SYS_ADMIN")
def test_an_old_process_becomes_an_envoy_and_then_another_program(
    tmp_path: Path, fake_events: FakeEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No scan reads it again by itself, and none is due: only the events lead to it."""
    monkeypatch.setattr(process_cache, "RECENT_S", -1.0)
    monkeypatch.setattr(process_cache, "BATCH", 0)
    monkeypatch.setattr(following, "open_ring", lambda *_: object())
    address = f"fd{secrets.token_hex(1)}:{secrets.token_hex(2)}::1"
    interpreter = os.path.realpath(sys.executable)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\n")
    shutil.copy(interpreter, tmp_path / "envoy")
    becomes = f"""read line; exec {tmp_path}/envoy -I -S -c '
import os
input()
os.execv("/bin/sleep", ["sleep", "1000"])'"""
    sources = OpenSources()
    played = Follower(
        Procfs(),
        sources,  # type: ignore[arg-type]
        Console(io.StringIO()),
        lambda netns, ring, *_: sources.update({netns: ring}),
        sources.shut,
        frozenset({ip_address(address)}),
        finders=frozenset({Finder.ENVOY}),
    )
    with subprocess.Popen(["sh", "-c", becomes], stdin=subprocess.PIPE, env={"INSTANCE_IP": address}) as child:
        try:
            played.begin()
            for is_envoy in (True, False):
                before = len(sources)
                assert child.stdin is not None
                child.stdin.write(b"go on\n")
                child.stdin.flush()
                wait_until(partial(runs, child.pid, tmp_path / "envoy", is_envoy), "the next program")
                played.look()
                assert len(sources) == before, "a scan without an event has found it"
                planned = played.next_look
                fake_events.report(child.pid)
                sources.turn()
                assert played.next_look < planned
                played.look()
                assert len(sources) == is_envoy
        finally:
            played.release()
            child.kill()


@pytest.mark.parametrize(
    ("notified", "finder", "rarely"),
    [(True, Finder.ENVOY, True), (False, Finder.ENVOY, False), (True, Finder.NETNS, False)],
)
def test_where_the_kernel_notifies_of_programs_scans_are_rare(
    notified: bool,
    finder: Finder,
    rarely: bool,
    fake_events: FakeEvents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But not for `netns`: a network namespace, or its address, begins without a program."""
    if not notified:
        fake_events.close()

        def refuse() -> ExecEvents:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(exec_events, "subscribe", refuse)
    (tmp_path / "stat").touch()
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"NSpid:\t{os.getpid()}\n")
    played = follower(Procfs(tmp_path), Sources(), finder)
    try:
        before = time.monotonic()
        played.begin()
        assert (played.next_look - before > 3) == rarely
    finally:
        played.release()
