"""Exec events: their bytes, the kernel's own where this machine gives them, and what the tapper makes of one."""

from __future__ import annotations

import errno
import io
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.sandbox.node import Node
from harness.sandbox.process import MINIMAL_ENVIRON, Command
from harness.waiting import wait_until
from tapper.capture.sources import Sources
from tapper.discovery.exec_events import PROC_EVENT_EXEC, ExecEvents, parse, subscribe
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.follow import events as processes
from tapper.follow import follower as following
from tapper.follow import pace
from tapper.follow.follower import Follower
from tapper.output.sink import Console


def event(pid: int, group: int, *, what: int = PROC_EVENT_EXEC, index: int = 1) -> bytes:
    body = struct.pack("=IIQII", what, 3, 99, pid, group)
    return struct.pack("=IHHIIIIIIHH", 36 + len(body), 3, 0, 0, 0, index, 1, 0, 0, len(body), 0) + body


def test_the_process_of_each_exec() -> None:
    """A thread that calls execve becomes its process's only one: the group is what procfs lists."""
    raw = event(78, 77) + event(5, 5, what=1) + event(6, 6, index=2) + event(9, 9)
    assert parse(raw) == {77, 9}
    assert parse(raw[:-1]) == {77}
    assert parse(b"") == set()


@given(st.binary(max_size=150))
def test_any_bytes_are_read(noise: bytes) -> None:
    """Nothing raises or hangs, and what comes before noise is still found."""
    parse(noise)
    assert 77 in parse(event(77, 77) + noise)


def test_the_kernels_own_events() -> None:
    try:
        events = subscribe()
    except OSError as error:
        pytest.skip(f"this machine gives no exec events here: {error}")
    try:
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]) as child:
            seen: set[int] = set()

            def told() -> bool:
                seen.update(events.pids() or ())
                return child.pid in seen

            wait_until(told, "the exec of a child")
    finally:
        events.close()


def test_elsewhere_the_subscription_is_refused(node: Node) -> None:
    """So that the tapper knows that it has to scan, and does not wait for events that never come."""
    body = "from tapper.discovery.exec_events import subscribe\ntry: subscribe()\nexcept OSError as e: print(type(e))"
    env = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(harness.__file__).parents[1])}
    assert "ConnectionRefusedError" in node.run(Command([sys.executable, "-c", body], env=env))


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a PID namespace on the machine's network, which only root can")
def test_in_a_nested_pid_namespace_the_silence_of_the_kernel_is_noticed() -> None:
    """On the machine's network the subscription succeeds there, and nothing is ever told."""
    try:
        subscribe().close()
    except OSError as error:
        pytest.skip(f"this machine gives no exec events here: {error}")
    body = (
        "from tapper.discovery.exec_events import subscribe\ntry: subscribe()\nexcept OSError as e: print(e.errno, e)"
    )
    env = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(harness.__file__).parents[1])}
    argv = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", body]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{errno.ENODATA} "), done.stdout
    assert "did not tell of a process" in done.stdout


def test_a_program_that_cannot_be_started_is_no_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a process may have no further ones. The descriptor is given back."""
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError):  # noqa: PT011 - FileNotFoundError, or a refusal where this machine gives no events
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


def test_an_exec_of_an_envoy_causes_a_look_at_once_and_others_do_not(
    envoy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events by hand: of a process that is no proxy, of one that is gone, then of an Envoy. Nothing is captured."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr(processes, "subscribe", lambda: ExecEvents(ours))
    monkeypatch.setattr(following, "check_following", lambda **_: None)  # none is used
    sources: Sources[Any] = Sources()
    follower = Follower(
        Procfs(),
        sources,
        Console(io.StringIO()),
        lambda *_: pytest.fail("a source was opened"),
        lambda _: pytest.fail("a source was dropped"),
        frozenset(),
        finders=frozenset({Finder.ENVOY}),
    )
    try:
        follower.begin()

        def turn_after(group: int) -> bool:
            """Whether a look is due after an event, which is taken in when the loop returns."""
            follower.next_look = time.monotonic() + 60
            kernel.send(event(group, group))
            sources.turn(5.0, *[lambda *_: pytest.fail("a source said something")] * 3)
            assert not select.select([ours], [], [], 0)[0]
            return follower.next_look <= time.monotonic()

        assert not turn_after(os.getpid())
        assert not turn_after(2**22 + 1)
        assert turn_after(envoy)
    finally:
        follower.release()
        kernel.close()


@pytest.mark.parametrize(
    ("told", "finder", "rarely"),
    [(True, Finder.ENVOY, True), (False, Finder.ENVOY, False), (True, Finder.NETNS, False)],
)
def test_where_the_kernel_tells_of_programs_looks_are_rare(
    told: bool, finder: Finder, rarely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not for what has no program of its own to begin: a network namespace, or its address."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def subscribe() -> ExecEvents:
        if told:
            return ExecEvents(ours)
        raise ConnectionRefusedError

    monkeypatch.setattr(processes, "subscribe", subscribe)
    monkeypatch.setattr(following, "check_following", lambda **_: None)
    monkeypatch.setattr(pace, "_SCAN_SHARE", 1_000_000)  # whatever a look costs here: the longest interval
    follower = Follower(
        Procfs(),
        Sources(),
        Console(io.StringIO()),
        lambda *_: pytest.fail("a source was opened"),
        lambda _: pytest.fail("a source was dropped"),
        frozenset(),
        finders=frozenset({finder}),
    )
    try:
        follower.begin()
        follower._settled = True
        monkeypatch.setattr(follower, "_follow", lambda _: None)
        before = time.monotonic()
        follower.look()
        assert (follower.next_look - before > 3) == rarely
        follower._settled = False
        before = time.monotonic()
        follower.look()
        assert follower.next_look - before < 3
    finally:
        follower.release()
        ours.close()
        kernel.close()
