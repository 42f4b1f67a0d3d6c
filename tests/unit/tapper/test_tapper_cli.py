"""Refusals: one sentence on standard error, and the exit code that says whose doing it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapper import FORM, __version__
from tapper.cli import main


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["tap"], "tapper: an empty list of targets captures nothing"),
        (["tap", "--istio", "--targets", " , "], "tapper: an empty list of targets captures nothing"),
        (["tap", "--filter-authorities", "10.0.0.1,10.0.0.0/8"], "tapper: '10.0.0.0/8' is not an IPv4 or IPv6 address"),
        (["discover", "--filter-authorities", "pod"], "tapper: 'pod' is not an IPv4 or IPv6 address"),
        (["discover", "-o", "xml"], "tapper: argument -o/--output: invalid choice: 'xml'"),
        (["tap", "--targets"], "tapper: argument --targets/--filter-authorities: expected one argument"),
        (["tap", "--targets", "10.0.0.1", "--filter-authorities", "x"], "tapper: 'x' is not an IPv4 or IPv6 address"),
        (["tap", "--nonsense"], "tapper: unrecognized arguments: --nonsense"),
        ([], "tapper: the following arguments are required: COMMAND"),
    ],
)
def test_bad_usage_is_two(argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1


def test_no_procfs_is_four(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", "--procfs", str(tmp_path)]) == 4
    assert capsys.readouterr().err == f"tapper: {tmp_path} is not a procfs: it has no self and stat (--procfs)\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out == f"tapper {__version__}, {FORM}\n"
