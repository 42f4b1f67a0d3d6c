"""Whatever a program writes, wherever, is known; and none of it reaches the machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.adapters.family import Family
from harness.conformance.audit import written
from harness.conformance.audit.logsocket import LogSocket
from harness.conformance.audit.written import Written
from harness.errors import Unsupported
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until

_LATEST = Path(__file__)


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as node:
        yield node


def _run(node: Node, files: Written, script: str) -> None:
    node.run(Command(["sh", "-c", script], overlay=files.overlay))


def test_files_everywhere_are_found_and_none_is_left(node: Node, tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    keep.mkdir()
    known = tmp_path / "known"
    known.write_text("before")
    (node.root / "run" / "known").write_text("before")
    (node.root / "run" / "other").write_text("somebody else's")
    files = Written(node, keep)
    _run(
        node,
        files,
        f"echo tmp > {tmp_path}/new; echo more >> {known}; rm {_LATEST}; echo root > /in-the-root; "
        "mkdir /var/deep; echo deep > /var/deep/file; echo shm > /dev/shm/file; "
        f"echo run > /run/new; echo more >> /run/known; echo kept > {keep}/file; "
        "mkdir /run/node/mine; echo mine > /run/node/mine/file; echo > /dev/null",
    )
    found = {name: content.decode() for name, content in files.contents()}
    assert found.pop(str(known)) == "beforemore\n"
    assert found.pop("/run/known") == "beforemore\n"
    assert found == {
        f"{tmp_path}/new": "tmp\n",
        "/in-the-root": "root\n",
        "/var/deep/file": "deep\n",
        "/dev/shm/file": "shm\n",
        "/run/new": "run\n",
        "/run/node/mine/file": "mine\n",
    }
    assert {"new", "deep", "file", "/run/new"} <= set(files.names())
    assert not {"/run/known", "/run/other"} & set(files.names())
    assert known.read_text() == "before"
    assert _LATEST.exists()
    assert not Path("/in-the-root").exists()
    assert (keep / "file").read_text() == "kept\n"


def test_a_program_sees_its_own_files_and_those_of_the_machine(node: Node, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("yes")
    keep = tmp_path / "kept"
    keep.mkdir()
    files = Written(node, keep)
    script = f"cat {tmp_path}/there; echo x > /tmp/its-own; cat /tmp/its-own; test -d /proc/1; readlink /proc/self/exe"
    told = node.run(Command(["sh", "-c", script], overlay=files.overlay))
    assert told.split() == ["yesx", "/usr/bin/readlink"]


def test_what_is_open_without_a_name_is_read(node: Node, tmp_path: Path) -> None:
    files = Written(node, tmp_path)
    program = (
        "import os, signal, tempfile; file = tempfile.TemporaryFile(); file.write(b'deleted'); file.flush(); "
        "memory = os.memfd_create('hidden'); os.write(memory, b'in memory'); print('ready', flush=True); signal.pause()"
    )
    process = node.spawn(Command([sys.executable, "-c", program], overlay=files.overlay))
    wait_until(lambda: "ready" in process.read_log(), "the program to have written")
    files.look(Family(process))
    process.stop()
    assert sorted(content for _, content in files.contents()) == [b"deleted", b"in memory"]


def test_a_kernel_that_refuses_is_told_so(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(1, "mount overlay: Operation not permitted")

    monkeypatch.setattr(node, "run", refuse)
    with pytest.raises(
        Unsupported, match=r"^what the tapper writes cannot be watched: the kernel refuses overlay .*run"
    ):
        Written(node, tmp_path)


def test_the_number_of_files_is_bounded(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "MOST_FILES", 5)
    files = Written(node, tmp_path)
    _run(node, files, "for n in 1 2 3 4 5 6 7 8; do echo $n > /tmp/file-$n; done")
    assert len(list(files.contents())) == 5


def test_the_log_takes_more_than_the_kernel_keeps(node: Node) -> None:
    program = (
        "import socket, sys; sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        "[sock.sendto(b'message %d' % n, '/run/systemd/journal/' + sys.argv[1]) for n in range(100)]"
    )
    with LogSocket(node) as log:
        for name in ("dev-log", "socket"):
            node.run([sys.executable, "-c", program, name], timeout=10)
        assert log.received() == [b"message %d" % number for number in range(100)] * 2
    with pytest.raises(subprocess.CalledProcessError):
        node.run([sys.executable, "-c", program, "socket"])
