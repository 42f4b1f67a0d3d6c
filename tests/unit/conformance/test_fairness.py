"""Fairness: a tapper that behaves badly is judged in a sentence that a person understands, and harms nothing.

Each of tests/unit/support/bad_tappers is run through a case, and whatever it does the kit is as it was before.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness.adapters import contract, files, limits
from harness.adapters.records import exchange
from harness.conformance.catalogue import cases
from harness.conformance.model import Outcome, Result
from harness.conformance.run import run
from harness.conformance.trial import Trial
from harness.sandbox.node import Node
from harness.waiting import wait_until

BAD_TAPPERS = Path(__file__).resolve().parents[1] / "support" / "bad_tappers"
IMPATIENT = 0.3
"""For those of whom nothing comes: it is waited for in vain. A limit costs all others nothing."""


def adapter(folder: Path, argv: str, output: str = 'format = "ndjson"') -> contract.Adapter:
    script, *arguments = argv.split()
    command = [sys.executable, str(BAD_TAPPERS / f"{script}.py"), *arguments]
    file = folder / "adapter.toml"
    file.write_text(f"""contract = 1
[implementation]
name = "{script}"
organization = "a test"
url = "about:blank"
version = "1"
contact = "nobody"
[run]
argv = {command!r}
ready = "fd"
stop_grace_s = 2
[output]
{output}
[targets]
discovery = "kit"
[features]
claims = []
""")
    return contract.load(file)


@pytest.fixture(scope="module", autouse=True)
def _fork_server() -> None:
    """What the first node of a process starts for all others is there before anything is counted."""
    Node().close()


def judged(
    folder: Path, argv: str, output: str = 'format = "ndjson"', case: str = "CAP-01", patience: float = 1.0
) -> Result:
    """Run a case, and see that nothing of it is left."""
    tapper = adapter(folder, argv, output)
    before = _held()
    result = run(cases()[case], tapper, folder / "evidence", patience)
    wait_until(lambda: _held() <= before, f"nothing to be left of {result}")
    assert result.outcome is not Outcome.ERROR, result.sentence
    assert "\n" not in result.sentence
    assert len(result.sentence) < 1000
    return result


def _held() -> set[object]:
    """Processes, threads and descriptors of this one, each by itself: what is from before may end at any time."""
    held: set[object] = set(psutil.Process().children(recursive=True))
    held |= {thread for thread in threading.enumerate() if thread.name.startswith("tapper-")}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            held.add((name, os.readlink(f"/proc/self/fd/{name}")))
    return held


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_OUTPUT", 16 << 20)
    monkeypatch.setattr(limits, "MOST_MEMORY", 256 << 20)
    monkeypatch.setattr(limits, "MOST_FILES", 32 << 20)


@pytest.fixture(autouse=True, scope="module")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first run opens what stays open (imports, the pidfd of this process …)."""
    result = run(cases()["CAP-01"], adapter(tmp_path_factory.mktemp("warm"), "working"), tmp_path_factory.mktemp("w"))
    assert result.outcome is Outcome.PASS, result


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("crashes_at_once", r"its end \(exit code 1\): ValueError: no such interface: eth7"),
        ("crashes_midway", r"its end \(killed by signal 6\)"),
        ("exits_with_zero", r"its end \(exit code 0\)"),
        ("daemonises", r"its end \(exit code 0\).*goes on in the background \(.*daemonises\.py\): run it in the foreg"),
        (
            "hangs",
            r'inside pod "server" \(10\.244\.0\.2\), which is a target within 3 s; seen: nothing of it in that time$',
        ),
        ("hangs deaf", r"nothing of it in that time$"),
        ("hangs stopped", r"nothing of it in that time$"),
        ("closes_stdout", r"nothing of it in that time; its standard output is closed"),
        ("chatty 1", r"it wrote more than 16 MiB"),
        ("chatty 2", r"it wrote more than 16 MiB to its standard error\): ye"),
        ("eats_memory", r"it took more than 256 MiB of memory"),
        ("fills_disk", r"its files took more than 32 MiB"),
        ("fills_disk /run", r"the files in /run took more than 32 MiB"),
        (
            "kills_everybody",
            r'processes of others left alone; seen: those of pod "server" \(10\.244\.0\.2\) were killed',
        ),
    ],
)
def test_a_tapper_that_fails_is_told_so(tmp_path: Path, argv: str, sentence: str) -> None:
    result = judged(tmp_path, argv, patience=IMPATIENT if "in that time" in sentence else 1.0)
    assert result.outcome is Outcome.FAIL, result
    assert re.search(sentence, result.sentence), result.sentence
    log = tmp_path / "evidence" / "tap-1" / "stderr"
    assert log.exists()
    if argv == "crashes_at_once":
        assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("argv", "note"),
    [
        ("working", r"^$"),
        ("slow_start", r"^$"),
        ("kills_parent", r"^$"),
        ("deletes_files", r"^$"),
        ("crashes_on_stop", r"^it ended with exit code 1$"),
        ("ignores_sigterm", r"^it did not end when asked to, and was killed$"),
        ("leaves_children", r"^it left a process behind: .*leaves_children\.py$"),
        ("garbage bytes", r"a line that is no record \(.*\): b'\\x00\\xff"),
        ("garbage types", r"its method is no text.*no object with a type.*status is no number.*have to be objects"),
        ("garbage types", r"have to be lists of \[name, value\].*have to be texts"),
        ("garbage base64", r"a line that is no record \(.*base64"),
        ("garbage deep", r"a line that is no record \(.*recursion"),
        ("garbage number", r"a line that is no record \(.*digits"),
        ("garbage half", r"the last line has no end: b'\{\"type\": \"ht'"),
        ("garbage long", r"^(the last line has no end.*)?$"),
        ("garbage surrogate", r"^$"),
    ],
)
def test_what_a_case_is_not_about_is_a_note(tmp_path: Path, argv: str, note: str) -> None:
    result = judged(tmp_path, argv)
    assert result.outcome is Outcome.PASS, result
    assert re.search(note, "; ".join(result.notes)), result.notes


def test_packets_that_are_none(tmp_path: Path) -> None:
    result = judged(tmp_path, "wrong_pcapng", 'format = "pcapng"', patience=IMPATIENT)
    assert result.outcome is Outcome.FAIL, result
    assert any("is not a whole pcap or pcapng file" in note for note in result.notes), result.notes


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("pipe", 'format = "ndjson"'),
        ("device", 'format = "ndjson"'),
        ("loop", 'format = "pcap"'),
        ("hole", 'format = "pcap"'),
    ],
)
def test_an_output_that_is_no_file(tmp_path: Path, kind: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST", 1 << 20)
    result = judged(tmp_path, f"odd_output {kind}", f'{output}\nto = "file"', patience=0.1)
    assert result.outcome is Outcome.FAIL, result
    assert 'a request inside pod "server"' in result.sentence


def test_equal_tappers_get_equal_verdicts(tmp_path: Path) -> None:
    """Five times each."""
    for argv, case in (("working", "CAP-01"), ("working", "CAP-03"), ("crashes_midway", "CAP-01")):
        verdicts = set()
        for number in range(5):
            folder = tmp_path / f"{argv}-{case}-{number}"
            folder.mkdir()
            result = judged(folder, argv, case=case)
            verdicts.add((result.outcome, result.sentence, result.notes))
        assert len(verdicts) == 1, verdicts


def test_what_a_tapper_leaves_is_gone_when_it_is_stopped(tmp_path: Path) -> None:
    """The daemon and the daemon's child, which hold its standard output open."""
    with Trial(adapter(tmp_path, "leaves_children"), tmp_path / "evidence") as trial:
        tap = trial.tap(trial.pod("server"))
        tap.stop()
        assert tap.ending is not None
        assert len(tap.ending.strays) == 1
        assert trial.node.strays() == {}
        assert "its standard output is closed" in tap.under_test.why_silent()


@pytest.mark.parametrize(("told", "meant"), [("node", "node"), ("wire", "node"), ("inbound", "inbound"), (None, None)])
def test_an_older_word_for_the_node_is_still_taken(told: str | None, meant: str | None) -> None:
    assert exchange({"type": "http", "target": "/", "direction": told}).direction == meant


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ({"wire": "tls"}, True),
        ({"wire": "plain"}, False),
        ({"wire": None}, None),
        ({"wire": ["another field"]}, None),
        ({}, None),
        ({"mtls": None, "wire": "tls"}, None),
        ({"mtls": False}, False),
    ],
)
def test_an_older_field_for_mtls_is_still_taken(told: dict[str, object], meant: bool | None) -> None:
    assert exchange({"type": "http", "target": "/", **told}).mtls is meant


def test_half_of_a_surrogate_pair_becomes_what_a_report_can_hold() -> None:
    seen = exchange({"type": "http", "target": "/\ud800", "request": {"headers": [["x", "\udfff"]]}})
    assert seen.target == "/?"
    assert seen.request is not None
    assert seen.request.header("x") == ["?"]
