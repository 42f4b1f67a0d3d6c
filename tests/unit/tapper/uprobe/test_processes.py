"""Which processes of pods are looked into, and what is attached to: in a procfs of plain files."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tapper.discovery.procfs import Procfs
from tapper.namespaces.identity import NamespaceId, namespace_of
from tapper.output.records import TlsProcess
from tapper.uprobe import processes as module
from tapper.uprobe.processes import FileId, TlsProcesses
from tapper.uprobe.readable import FileVerdict

IP = "10.0.0.2"


def openssl() -> bytes:
    """A library of this machine with the function SSL_read."""
    strings = b"\0SSL_read\0"
    table = bytes(24) + struct.pack("<IBBHQQ", 1, 18, 0, 1, 0x40, 9)
    machine = {"x86_64": 62, "aarch64": 183}[os.uname().machine]
    at = 64 + 56
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, machine, 1, 0, 64, at + 64, 0, 64, 56, 1, 64, 3, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 4096, 4096, 4096)
    body = (strings + bytes(16 - len(strings)) + table).ljust(64, b"\0")
    sections = bytes(64)
    for kind, offset, size, link in ((3, at, len(strings), 0), (11, at + 16, len(table), 1)):
        sections += struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, size, link, 0, 0, 0)
    return head + load + body + sections


@dataclass
class World:
    """A procfs, the root of its processes, and what was attached."""

    path: Path
    attached: list[str] = field(default_factory=list)
    detached: list[FileId] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.path / "proc").mkdir()
        for name in ("self", "stat", "netns-of-pod", "netns-of-other"):
            (self.path / "proc" / name).touch()
        (self.path / "root").mkdir()

    def file(self, name: str, data: bytes) -> Path:
        path = self.path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def process(self, pid: int, exe: Path, *libraries: Path, netns: str = "pod", device: str = "fe:00") -> None:
        folder = self.path / "proc" / str(pid)
        for name in ("ns", "map_files"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "exe").symlink_to(exe)
        (folder / "root").symlink_to(self.path / "root")
        (folder / "ns" / "net").symlink_to(self.path / "proc" / f"netns-of-{netns}")
        lines = []
        for number, file in enumerate((exe, *libraries), 1):
            (folder / "map_files" / f"{number}000-{number}fff").symlink_to(file)
            lines.append(f"{number:05}000-{number:05}fff r-xp 00000000 {device} {file.stat().st_ino} {file}\n")
        (folder / "maps").write_text("".join(lines))
        (folder / "mountinfo").write_text("21 1 254:0 / / rw - ext4 /dev/vda rw\n30 21 0:43 / /m rw - fuse.x x rw\n")

    @property
    def pods(self) -> dict[NamespaceId, str]:
        return {namespace_of(self.path / "proc" / "netns-of-pod"): IP}

    def looker(self, failure: OSError | None = None, began_in: Mapping[int, int] | None = None) -> TlsProcesses:
        def attach(key: FileId, path: str, verdict: FileVerdict) -> None:
            if failure is not None:
                raise failure
            self.attached.append(Path(os.readlink(path)).name)

        return TlsProcesses(Procfs(self.path / "proc"), attach, self.detached.append, (began_in or {}).get)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_file_is_attached_to_once_and_a_process_is_told_once(world: World) -> None:
    app, library = world.file("bin/app", b"#!"), world.file("opt/libssl.so.3", openssl())
    for pid in (7, 8):
        world.process(pid, app, library)
    world.process(9, app, library, netns="other")
    looker = world.looker()
    assert looker.look(world.pods) == [TlsProcess(IP, pid, "app", "openssl", None) for pid in (7, 8)]
    assert world.attached == ["libssl.so.3"]
    assert looker.look(world.pods) == []
    assert world.detached == []


def test_a_library_that_is_mapped_later(world: World) -> None:
    app, library = world.file("bin/app", b"#!"), world.file("opt/libssl.so.3", openssl())
    world.process(7, app)
    looker = world.looker()
    assert looker.look(world.pods, everything=False) == []
    shutil.rmtree(world.path / "proc" / "7")
    world.process(7, app, library)
    assert looker.look_at({7: "", 99: ""}, world.pods) == [TlsProcess(IP, 7, "app", "openssl", None)]


def test_libraries_in_the_usual_folders_before_anybody_maps_them(world: World) -> None:
    """A link may lead out of the pod's root. Whoever serves a root of FUSE could keep the tapper waiting."""
    world.file("usr/lib/x86_64-linux-gnu/libssl.so.3", openssl())
    outside = world.path / "libssl.so.1.1"
    outside.write_bytes(openssl())
    (world.path / "root/usr/lib/libssl.so.1.1").symlink_to(outside)
    (world.path / "root/lib64").symlink_to(world.path)
    world.process(7, world.file("bin/app", b"#!"))
    mountinfo = world.path / "proc/7/mountinfo"
    text = mountinfo.read_text()
    mountinfo.write_text(text.replace(" ext4 ", " fuse.sshfs "))
    assert world.looker().look(world.pods) == []
    assert world.attached == []
    mountinfo.write_text(text)
    assert world.looker().look(world.pods) == []
    assert world.attached == ["libssl.so.3"]


def test_a_program_whose_process_has_ended(world: World) -> None:
    """Its next process may be as short-lived: it is looked for in the roots of the pod, if the process was there."""
    inode = next(iter(world.pods)).inode
    world.process(7, world.file("bin/app", b"#!"))
    world.file("bin/short", openssl())
    world.file("bin/others", openssl())
    world.file("bin/without", b"#!")
    looker = world.looker(began_in={90: inode, 91: inode + 1, 92: inode, 93: inode})
    looker.look(world.pods)
    programs = {90: "/bin/short", 91: "/bin/others", 92: "/bin/without", 93: "/bin/none", 94: "/bin/others"}
    assert looker.look_at(programs, world.pods) == []
    assert world.attached == ["short"]


def test_a_file_on_fuse_is_not_opened(world: World) -> None:
    world.process(7, world.file("bin/app", b"#!"), world.file("opt/libssl.so.3", openssl()), device="00:2b")
    assert world.looker().look(world.pods) == []
    assert world.attached == []


def test_a_library_within_a_program_and_one_that_cannot_be_attached_to(world: World) -> None:
    world.process(7, world.file("bin/rusty", b"\x7fELF ... /rustls-0.23.5/src/conn.rs"))
    world.process(8, world.file("bin/app", b"#!"), world.file("opt/libssl.so.3", openssl()))
    found = world.looker(OSError(22, "Invalid argument")).look(world.pods)
    assert [(each.program, each.library, each.reason) for each in found] == [
        ("rusty", "rustls", "rustls has no symbols"),
        ("app", "openssl", "the kernel attaches no program to it: invalid argument"),
    ]


def test_a_file_that_nobody_has_any_more_is_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_S", 0.0)
    library = world.file("opt/libssl.so.3", openssl())
    world.process(7, world.file("bin/app", b"#!"), library)
    looker = world.looker()
    looker.look(world.pods)
    looker.look(world.pods)
    assert world.detached == []
    shutil.rmtree(world.path / "proc" / "7")
    looker.look(world.pods)
    status = library.stat()
    assert (status.st_dev, status.st_ino, False) in world.detached
