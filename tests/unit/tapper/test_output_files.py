"""Where `-w` writes: to a new file of its own, whatever lay there before; and what a full disk leaves behind."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.mesh import replay
from harness.sandbox import pcap
from harness.sandbox.frames import Frame
from tapper.errors import TapperError
from tapper.output.sink import open_output


def written(path: Path, text: str = "new\n") -> str:
    with open_output(str(path)) as output:
        output.write(text)
    return path.read_text()


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "out"
    assert written(path) == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_an_old_file_is_replaced_and_not_written_to(tmp_path: Path) -> None:
    """Whoever has the old one open, or another name for it, sees nothing of the new one."""
    path, other_name = tmp_path / "out", tmp_path / "other"
    path.write_text("old\n")
    path.chmod(0o666)
    other_name.hardlink_to(path)
    assert written(path) == "new\n"
    assert other_name.read_text() == "old\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "out"
    victim.write_text("of the system\n")
    path.symlink_to(victim)
    with pytest.raises(TapperError, match="is a symbolic link"):
        written(path)
    assert victim.read_text() == "of the system\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_what_is_another_users_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    path.write_text("theirs\n") if kind == "file" else os.mkfifo(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(TapperError, match=r"belongs to another user \(uid 12345\)"):
        written(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (str(tmp_path), f"{tmp_path}/none/"):
        with pytest.raises(TapperError, match="is a directory"):
            open_output(path)


def test_a_fifo_and_a_device_are_written_to(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    with open_output(str(fifo)) as output:
        output.write("line\n")
    reader.join()
    assert read == ["line\n"]
    with open_output("/dev/null") as output:
        output.write("line\n")


def capture_of(tmp_path: Path, exchanges: int) -> Path:
    path = tmp_path / "in.pcap"
    leg = replay.ReplayLeg(("127.0.0.6", 40001), ("10.0.0.3", 8080), ("10.0.0.3", 8080))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    pairs = [(f"GET /{number} HTTP/1.1\r\nHost: shop\r\n\r\n".encode(), answer) for number in range(exchanges)]
    pcap.write(path, [Frame(1_000_000_000 + at, data) for at, data in enumerate(replay.conversation(leg, pairs))])
    return path


@pytest.mark.parametrize("form", ["har", "ndjson"])
@pytest.mark.parametrize("room", [100_000, 100_003, 131_072])
def test_a_full_disk_leaves_whole_records(tmp_path: Path, form: str, room: int) -> None:
    """A limit on the size of files stands for the disk: write(2) takes a part of what it is given, then nothing."""
    source, path = capture_of(tmp_path, 1500), tmp_path / "out"
    ran = subprocess.run(
        [sys.executable, "-m", "tapper", "tap", "-r", source, "-o", form, "-w", path],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "tapper: cannot write the output: file too large"
    text = path.read_text()
    assert 0 < len(text) <= room
    records = json.loads(text)["log"]["entries"] if form == "har" else [json.loads(line) for line in text.splitlines()]
    assert len(records) > 10
