"""The tapper with closed, full and narrow standard streams: a sentence or silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from shells import shell, without_reader
from test_file import conversation_of, pcap


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file.pcap").write_bytes(pcap(conversation_of(["/seen"])))
    return tmp_path


READS = "tapper tap -r file.pcap"


@pytest.mark.parametrize("form", ["text", "ndjson", "har"])
def test_a_closed_or_full_output_is_a_sentence(folder: Path, form: str) -> None:
    for where, reason in ((">&-", "bad file descriptor"), (">/dev/full", "no space left on device")):
        done = shell(folder, f"{READS} -o {form} {where}")
        assert done.returncode == 1
        assert f"tapper: cannot write the output: {reason}\n" in done.stderr
    done = shell(folder, f"{READS} -o {form}")
    assert "/seen" in done.stdout, "the canary: it writes where it can"


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_without_standard_error_it_does_its_work(folder: Path, where: str) -> None:
    done = shell(folder, f"{READS} {where}")
    assert done.returncode == 0
    assert "/seen" in done.stdout


def test_what_it_opens_does_not_get_the_number_of_a_closed_stream(folder: Path) -> None:
    """Otherwise messages for people would stand in the output file."""
    done = shell(folder, f"{READS} -w out <&- >&- 2>&-; cat out")
    assert "/seen" in done.stdout
    assert "tapper:" not in done.stdout


def test_a_closed_standard_input_cannot_be_read(folder: Path) -> None:
    done = shell(folder, "tapper tap -r - <&-")
    assert done.returncode != 0
    assert "tapper: cannot read - to its end: bad file descriptor (-r)\n" in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_help_is_shown_in_any_encoding(folder: Path, encoding: str) -> None:
    done = shell(folder, "tapper tap --help", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert "--targets IP[,IP\\u2026]" in done.stdout


def test_a_reader_who_has_gone_is_no_error(folder: Path) -> None:
    for command in (READS, "tapper tap --help", "tapper discover"):
        assert without_reader(folder, command).returncode == 0
