"""`tapper-harness report` as somebody types it, with the reports of runs that really were."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from adapter_files import REPOSITORY
from kit_command import command
from report_records import record, result

from harness.adapters import shipped
from harness.adapters.contract import load
from harness.conformance import report_file
from harness.conformance.catalogue import cases
from harness.conformance.model import Outcome
from harness.conformance.suite import Run
from harness.report import write


def test_two_runs_of_one_tapper_and_one_of_another(tmp_path: Path) -> None:
    report = ["--report", "first"]
    assert command(tmp_path, "check", "--adapter", "reference", "--case", "CAP-01", *report).returncode == 0
    report = ["--report", "second"]
    assert command(tmp_path, "check", "--adapter", "reference", "--case", "CAP-02", *report).returncode == 0
    (tmp_path / "third").mkdir()
    report_file.write(record({"CAP-01": result("CAP-01", Outcome.FAIL)}, name="\x1b[31mred"), tmp_path / "third")
    done = command(tmp_path, "report", "first", "second", "third", "--output", "all")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "tapper: TAP-PACKET not-claimed, TAP-HTTP1 partial, TAP-HTTP2 partial, TAP-TLS partial",
        r"\x1b[31mred: TAP-PACKET failure, TAP-HTTP1 failure, TAP-HTTP2 not-claimed, TAP-TLS not-claimed",
    ]
    html = (tmp_path / "all" / "report.html").read_text()
    for file in ("../first/CAP-01/truth-server-lo.pcap", "../second/CAP-02/tap-1/run.json"):
        assert f'href="{file}"' in html
        assert (tmp_path / "all" / file).exists()
    assert "different suites" in html
    assert "tapper-harness check --adapter reference --case CAP-02" in html
    markdown = (tmp_path / "all" / "report.md").read_text()
    for case in ("CAP-01", "CAP-02"):
        (row,) = [line for line in markdown.splitlines() if line.startswith(f"| {case} ")]
        assert "✓ pass" in row

    tshark = shutil.which("tshark")
    assert tshark is not None, "script/setup installs it"
    pcap = tmp_path / "first" / "CAP-01" / "truth-server-lo.pcap"
    read = subprocess.run(
        [tshark, "-r", str(pcap), "-d", "tcp.port==8080,http", "-Y", "http.request", "-T", "fields", "-e", "http.host"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert len(read.stdout.splitlines()) >= 20


def test_one_report_is_written_beside_itself(tmp_path: Path) -> None:
    report_file.write(record(), tmp_path)
    done = command(tmp_path, "report", "report.yaml", "--docs", "docs/conformance")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Written: report.html, report.md, junit.xml\n")
    assert "docs/conformance/CAP.md#cap-01" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file"),
        ("a: [", "is not YAML"),
        ("a: b", "('a' was unexpected)"),
        ("schema_version: 2", "report.yaml: "),
    ],
)
def test_a_broken_report_is_told_with_its_file_and_the_reason(tmp_path: Path, text: str | None, sentence: str) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    report_file.write(record(), tmp_path / "good")
    if text is not None:
        (tmp_path / "bad" / "report.yaml").write_text(text)
    done = command(tmp_path, "report", "good", "bad", "--output", "all")
    assert done.returncode == 2
    assert done.stderr.startswith("tapper-harness report: bad/report.yaml")
    assert sentence in done.stderr
    assert not (tmp_path / "all").exists()


def test_every_case_of_the_catalogue_is_in_every_format(tmp_path: Path) -> None:
    run = Run(load(shipped.names()["reference"]), tmp_path)
    for path in write.after_run(run.record(), tmp_path):
        text = path.read_text()
        assert [case for case in cases() if case not in text] == []


def test_a_new_run_does_not_wear_the_pages_of_the_last(tmp_path: Path) -> None:
    report_file.write(record(), tmp_path)
    paths = write.after_run(record(), tmp_path)
    (tmp_path / "mine.txt").write_text("")
    write.clear(tmp_path)
    assert not [path for path in paths if path.exists()]
    assert (tmp_path / "mine.txt").exists()


def test_markdown_alone_with_the_reasons_that_somebody_found(tmp_path: Path) -> None:
    report_file.write(record({"CAP-01": result("CAP-01", Outcome.FAIL)}), tmp_path)
    (tmp_path / "why.toml").write_text('[mine]\nCAP-01 = "it <never> looks"\n')
    options = ["--markdown", "page.md", "--docs", "pages", "--reasons"]
    done = command(tmp_path, "report", "report.yaml", *options, "why.toml")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.md", "report.yaml", "why.toml"]
    page = (tmp_path / "page.md").read_text()
    assert "- [CAP-01](pages/CAP.md#cap-01) (MUST, fail): it &#60;never> looks\n" in page
    assert "| [a tapper](#a-tapper) | 1 / 0 / 0 / 0 | 1 / 1 / 0 / 0 | 1 / 0 / 0 / 0 | 3 / 1 / 0 / 0 |" in page
    (tmp_path / "why.toml").write_text('[mine]\nCAP-02 = "a tale"\n')
    done = command(tmp_path, "report", "report.yaml", *options, "why.toml")
    assert done.returncode == 2
    assert "why.toml: mine.CAP-02: no report here has anything to explain about this case" in done.stderr


def test_the_page_of_real_tappers_is_what_their_reports_say(tmp_path: Path) -> None:
    """Made by script/tappers, never by hand."""
    docs = REPOSITORY / "docs"
    names = ("reference", "tcpdump", "dumpcap", "tshark", "scapy", "mizu", "kubeshark")
    reports = [docs / "tappers" / f"{name}.yaml" for name in names]
    assert set((docs / "tappers").glob("*.yaml")) == set(reports)
    page = tmp_path / "tappers.md"
    options = ["--docs", "conformance", "--reasons", str(docs / "tappers" / "reasons.toml"), "--markdown", str(page)]
    done = command(tmp_path, "report", *map(str, reports), *options)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == (docs / "tappers.md").read_text(), "run script/tappers --page"
