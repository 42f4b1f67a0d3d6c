"""tapper-harness with closed, full and narrow standard streams, and a full disk: a sentence or silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from shells import shell, without_reader

from harness.conformance import report_file

PRIVATE = ("unshare", "--user", "--map-root-user", "--mount")
COMMANDS = ["adapters", "cases", "cases CAP-02", "mutants --list", "--help", "check --help", "adapter new mine"]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_printed_is_a_sentence(tmp_path: Path, command: str) -> None:
    for where, reason in ((">&-", "bad file descriptor"), (">/dev/full", "no space left on device")):
        done = shell(tmp_path, f"rm -rf mine; tapper-harness {command} {where}")
        assert done.returncode == 3
        assert done.stderr == f"tapper-harness: standard output cannot be written: {reason}; send it elsewhere\n"
    done = shell(tmp_path, f"rm -rf mine; tapper-harness {command}")
    assert (done.returncode, bool(done.stdout)) == (0, True), "the canary: it prints where it can"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_who_has_gone_ends_it_in_silence(tmp_path: Path, command: str) -> None:
    done = without_reader(tmp_path, f"tapper-harness {command}")
    assert done.returncode == 141
    assert done.stderr == ""


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_without_standard_error_the_exit_code_tells(tmp_path: Path, where: str) -> None:
    assert shell(tmp_path, f"tapper-harness cases CAP-99 {where}").returncode == 2
    assert shell(tmp_path, f"tapper-harness check {where}").returncode == 2


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_any_encoding_will_do(tmp_path: Path, encoding: str) -> None:
    for command in ("check --help", "cases", "adapters"):
        done = shell(tmp_path, f"tapper-harness {command}", PYTHONIOENCODING=encoding)
        assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr


def test_a_run_whose_reader_has_gone_keeps_what_is_known(tmp_path: Path) -> None:
    line = "tapper-harness check --adapter reference --case CAP-01 --case CAP-02 --jobs 1 --patience 3 --report out"
    done = shell(tmp_path, f"{line} | head -n 1")
    assert done.returncode == 141
    assert done.stderr == ""
    assert "2 cases" in done.stdout
    assert report_file.load(tmp_path / "out").results


def test_a_full_disk_under_the_report_is_a_sentence(tmp_path: Path) -> None:
    """The disk is one in memory, in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    line = (
        "mount -t tmpfs -o size=64k none disk || exit 99; "
        "tapper-harness check --adapter reference --case CAP-01 --jobs 1 --patience 3 --report disk/out"
    )
    done = shell(tmp_path, line, *PRIVATE)
    assert done.returncode != 99, done.stderr
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == (
        "tapper-harness: the report in disk/out cannot be written: no space left on device; "
        "make room there, or name another folder (--report)"
    )


def test_pages_that_cannot_be_written_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = shell(tmp_path, "tapper-harness cases --markdown file/pages")
    assert done.returncode == 2
    assert done.stderr == "tapper-harness cases: file/pages cannot be written: Not a directory\n"
