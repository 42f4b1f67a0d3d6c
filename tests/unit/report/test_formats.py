"""HTML, Markdown and JUnit XML: each holds every case, is well formed, and shows what a tapper says as mere text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
from report_records import HOSTILE, WORLD, hostile, record, result

from harness.conformance.model import Outcome
from harness.conformance.record import ClusterRun, RunRecord
from harness.conformance.verdict import ProfileVerdict
from harness.report import junit, render
from harness.report.building import build
from harness.report.merge import StoredReport, merge
from harness.report.page import MEANINGS, SYMBOLS, Page

VOID = {"meta", "input", "link", "img", "br"}
MOST_COLUMNS = 3


class Document(HTMLParser):
    """A page's elements and its text; refuses tags that are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, names)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"style", "script"}:
            self.words.append(data)

    def with_attribute(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    @property
    def text(self) -> str:
        return "".join(self.words)


def page(*records: RunRecord, output: Path = Path("out"), **more: Any) -> Page:
    return build(merge(StoredReport(each, output / each.implementation.name) for each in records), output, **more)


ONE = page(record({"CAP-01": result("CAP-01", Outcome.FAIL, expected="a thing", seen="no thing")}))
THREE = page(
    record(name="first"),
    record({"CAP-01": result("CAP-01", Outcome.FAIL)}, name="second"),
    record({"CAP-02": result("CAP-02", Outcome.BLOCKED)}, name="third"),
)
ALL = pytest.mark.parametrize("made", [ONE, THREE, page(hostile())], ids=["one", "three", "hostile"])


@ALL
def test_every_case_is_in_every_format(made: Page) -> None:
    documents = [Document(render.html(made)).text, render.markdown(made), junit.render(made)]
    for document in documents:
        for case, _, _ in WORLD:
            assert case in document
        for outcome in made.outcomes:
            assert outcome in document


@ALL
def test_the_html_is_whole_and_its_links_lead_somewhere(made: Page) -> None:
    document = Document(render.html(made))
    ids = document.with_attribute("id")
    assert len(set(ids)) == len(ids)
    within = [unquote(href[1:]) for href in document.with_attribute("href") if href.startswith("#")]
    assert within
    assert set(within) <= set(ids)
    assert set(document.with_attribute("aria-labelledby")) <= set(ids)
    assert {each.get("scope") for tag, each in document.elements if tag == "th"} == {"col", "row"}


@ALL
def test_the_html_needs_nothing_else(made: Page) -> None:
    text = render.html(made)
    document = Document(text)
    assert not document.with_attribute("src")
    assert not [tag for tag, _ in document.elements if tag in {"link", "img", "iframe", "object", "base"}]
    assert not re.search(r"url\(|@import", text.partition("</style>")[0])
    assert "default-src 'none'" in document.with_attribute("content")[0]
    assert all(href.startswith(("#", "https://")) for href in document.with_attribute("href"))


def test_nothing_is_hidden_from_a_browser_without_javascript() -> None:
    hidden = [
        attributes.get("id", tag) for tag, attributes in Document(render.html(THREE)).elements if "hidden" in attributes
    ]
    assert set(hidden) == {"filters", "nothing", "button"}  # all of which do nothing without it


def test_hostile_words_are_words() -> None:
    text = render.html(page(hostile()))
    document = Document(text)
    assert [tag for tag, _ in document.elements if tag in {"img", "script"}] == ["script"]
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]
    assert not [href for href in document.with_attribute("href") if "javascript" in href]
    assert "{{ 7*7 }}" in document.text
    assert "49" not in re.findall(r"\b49\b", document.text)
    assert not set("\x00\x1b\u202e\ud800") & set(text)
    assert r"\x00\x1b[31m\u202e]]>&amp;\ud800" in document.text


def test_hostile_words_are_words_in_markdown_and_xml_too() -> None:
    written = render.markdown(page(hostile()))
    outside = re.sub(r"(`+).*?\1", "", written)
    assert "<script" not in outside
    assert "<img" not in outside
    assert "@all" not in outside
    rows = [line for line in written.splitlines() if line.startswith("| CAP-01")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [5]
    messages = [each.get("message", "") for each in ET.fromstring(junit.render(page(hostile()))).iter("failure")]
    assert messages == [
        HOSTILE.replace("\x00", r"\x00")
        .replace("\x1b", r"\x1b")
        .replace("\u202e", r"\u202e")
        .replace("\ud800", r"\ud800")
    ]


def test_junit_says_what_became_of_each_case() -> None:
    ends = {
        "DISC-01": result("DISC-01", Outcome.DELEGATED),
        "CAP-01": result("CAP-01", Outcome.TIMEOUT, expected="a thing", seen="nothing"),
        "CAP-02": result("CAP-02", Outcome.NON_STRICT),
        "LOAD-01": result("LOAD-01", Outcome.ERROR, evidence="LOAD-01"),
    }
    (suite,) = ET.fromstring(junit.render(page(record(ends))))
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    ended = {}
    for each in suite.iter("testcase"):
        properties = {one.get("name"): one.get("value") for one in each.iter("property")}
        case = (each.get("name") or "").partition(" ")[0]
        assert each.get("classname") == case.partition("-")[0]
        kinds = [kind for kind in ("failure", "error", "skipped") if each.find(kind) is not None]
        ended[case] = (properties["outcome"], properties["level"], properties["evidence"], kinds)
    assert ended == {
        "DISC-01": ("delegated", "MUST", "", ["skipped"]),
        "CAP-01": ("timeout", "MUST", "", ["failure"]),
        "CAP-02": ("non-strict", "SHOULD", "", []),
        "LOAD-01": ("error", "MUST", "LOAD-01", ["error"]),
    }
    assert "seen: nothing" in (suite.findtext(".//failure") or "")
    assert suite.findtext(".//system-out") == "non-strict: why CAP-02 ended so"


def test_a_page_says_where_tappers_differ_and_whether_their_suites_do() -> None:
    assert {case.id: case.differs for case in THREE.cases} == {
        "DISC-01": False,
        "CAP-01": True,
        "CAP-02": True,
        "LOAD-01": False,
    }
    assert not THREE.warnings
    (warning,) = page(record(name="a"), record(name="b", suite_sha256="6" * 64)).warnings
    assert warning.startswith("These reports are of different suites")
    assert warning in Document(render.html(page(record(name="a"), record(name="b", suite_sha256="6" * 64)))).text


def test_a_case_that_one_suite_lacks_has_no_end_there() -> None:
    older = record(name="older", suite_sha256="6" * 64)
    older = replace(older, rows=older.rows[1:])
    made = page(older, record(name="newer"))
    (case,) = [case for case in made.cases if case.id == "DISC-01"]
    assert case.cells[0] is None
    assert case.cells[1] is not None
    assert Document(render.html(made)).text
    assert "no such case" in render.markdown(made)
    assert [len(list(suite.iter("testcase"))) for suite in ET.fromstring(junit.render(made))] == [3, 4]


def test_a_run_in_a_cluster_says_so_in_every_format() -> None:
    known = record({"CAP-01": result("CAP-01", Outcome.FAIL)}, cluster=ClusterRun(("--kind",), 4.0))
    for rendered in (render.html(page(known)), render.markdown(page(known))):
        assert "in the cluster 1 at a time, time limits 4 times those of the sandbox" in rendered


def test_columns_have_names_of_their_own() -> None:
    three = page(record(), record(adapter_sha256="b" * 64), record(patience=2.0))
    assert [column.label for column in three.columns] == [
        f"a tapper · 7.0 · 2026-01-02T03:04:05Z ({number})" for number in range(1, MOST_COLUMNS + 1)
    ]


def test_evidence_is_linked_relative_to_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "run one" / "CAP-01"
    (folder / "tap-1").mkdir(parents=True)
    (folder / "tap-1" / "a #1?.pcapng").write_text("x")
    (folder / "empty").write_text("")
    (folder / "away").symlink_to("/etc/passwd")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("x")
    ends = {
        "CAP-01": result("CAP-01", Outcome.FAIL, evidence="CAP-01"),
        "CAP-02": result("CAP-02", Outcome.FAIL, evidence="../secret"),
    }
    made = build(merge([StoredReport(record(ends), tmp_path / "run one")]), tmp_path / "page")
    links = {case.id: cell.evidence for case in made.cases for cell in case.cells if cell}
    assert [(link.name, link.href) for link in links["CAP-01"]] == [
        ("tap-1/a #1?.pcapng", "../run%20one/CAP-01/tap-1/a%20%231%3F.pcapng")
    ]
    assert (tmp_path / "page" / ".." / unquote(links["CAP-01"][0].href).removeprefix("../")).resolve().exists()
    assert links["CAP-02"] == ()


def test_the_pages_of_the_cases_are_linked_where_they_lie() -> None:
    made = page(record(), docs="conformance/")
    assert "[CAP-01](conformance/CAP.md#cap-01)" in render.markdown(made)
    assert "conformance/CAP.md#cap-01" in Document(render.html(made)).with_attribute("href")


def test_every_outcome_and_verdict_has_its_sign_and_its_words() -> None:
    assert set(MEANINGS) == set(Outcome)
    assert set(SYMBOLS) == set(Outcome) | set(ProfileVerdict)
    assert len({SYMBOLS[outcome] for outcome in Outcome}) == len(Outcome)
