"""From outcomes to verdicts, exit codes and the report: no tapper runs here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.adapters import shipped
from harness.adapters.contract import Adapter, Exemption, Feature, load
from harness.conformance import record as records
from harness.conformance import report_file
from harness.conformance.catalogue import cases as catalogue
from harness.conformance.model import Case, Level, Outcome, Profile, Result
from harness.conformance.record import ClusterRun, Environment, RunRecord
from harness.conformance.report_file import ReportError
from harness.conformance.suite import SelectionError, choose, prepare
from harness.conformance.summary import text
from harness.conformance.verdict import set_aside
from harness.errors import InternalError


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return load(shipped.names()["reference"])


def requirement(_: object) -> None:
    """It MUST hold.

    Because.
    """


CASES = [
    Case("CAP-01", Level.MUST, "source", requirement),
    Case("CAP-02", Level.SHOULD, "source", requirement, discovery=True),
    Case("HTTP-07", Level.MUST, "source", requirement, frozenset({Feature.HTTP2})),
]


def results(*outcomes: Outcome) -> dict[str, Result]:
    """For the cases in their order; `pass` where none is given."""
    given = [*outcomes, *[Outcome.PASS] * (len(CASES) - len(outcomes))]
    return {case.id: Result(case.id, outcome, "why") for case, outcome in zip(CASES, given, strict=True)}


def made(
    adapter: Adapter, given: dict[str, Result], *, cases: tuple[str, ...] = (), finished: bool = True
) -> RunRecord:
    return RunRecord(
        suite_version="1",
        suite_sha256="0" * 64,
        adapter_file="a.toml",
        adapter_sha256="1" * 64,
        implementation=adapter.implementation,
        claims=("http1", "http2"),
        environment=Environment("6", "1", "3"),
        started="2026-01-02T03:04:05Z",
        seconds=1.5,
        patience=1.0,
        jobs=2,
        asked_profiles=(),
        asked_cases=cases,
        finished=finished,
        profiles=records.verdicts(records.rows(CASES, given), adapter.claims),
        rows=records.rows(CASES, given),
    )


@pytest.mark.parametrize(
    ("outcomes", "http1", "http2", "code"),
    [
        ([], "success", "success", 0),
        ([Outcome.FAIL], "failure", "failure", 1),
        ([Outcome.TIMEOUT], "failure", "failure", 1),
        ([Outcome.PASS, Outcome.TIMEOUT], "failure", "failure", 1),
        ([Outcome.PASS, Outcome.NON_STRICT], "success", "success", 0),
        ([Outcome.BLOCKED], "partial", "partial", 3),
        ([Outcome.EXEMPT], "partial", "partial", 3),
        ([Outcome.DELEGATED], "partial", "partial", 3),
        ([Outcome.DESELECTED], "partial", "partial", 3),
        ([Outcome.ERROR], "partial", "partial", 4),
        ([Outcome.ERROR, Outcome.FAIL], "failure", "failure", 1),
        ([Outcome.PASS, Outcome.BLOCKED], "success", "success", 0),
        ([Outcome.PASS, Outcome.PASS, Outcome.FAIL], "success", "failure", 1),
        ([Outcome.PASS, Outcome.PASS, Outcome.BLOCKED], "success", "partial", 3),
    ],
)
def test_verdicts_and_exit_codes(adapter: Adapter, outcomes: list[Outcome], http1: str, http2: str, code: int) -> None:
    record = made(adapter, results(*outcomes))
    verdicts = {"TAP-PACKET": "not-claimed", "TAP-HTTP1": http1, "TAP-HTTP2": http2}
    assert record.profiles == verdicts | {"TAP-TLS": "success"}, "none of these cases is of the group TLS"
    assert record.exit_code() == code


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([Outcome.PASS, Outcome.DESELECTED, Outcome.DESELECTED], 0),
        ([Outcome.BLOCKED, Outcome.DESELECTED, Outcome.DESELECTED], 3),
        ([Outcome.FAIL, Outcome.DESELECTED, Outcome.DESELECTED], 1),
    ],
)
def test_where_cases_were_named_they_alone_are_judged(adapter: Adapter, outcomes: list[Outcome], code: int) -> None:
    assert made(adapter, results(*outcomes), cases=("CAP-01",)).exit_code() == code


def test_a_tapper_that_claims_no_profile_is_judged_by_its_cases(adapter: Adapter) -> None:
    nothing = replace(adapter, claims=frozenset({Feature.IPV6}))
    assert set(made(nothing, results()).profiles.values()) == {"not-claimed"}
    assert made(nothing, results()).exit_code() == 0
    assert made(nothing, results(Outcome.FAIL)).exit_code() == 1


def test_what_is_not_run_has_a_reason(adapter: Adapter) -> None:
    first, second, third = CASES
    assert set_aside(first, adapter) is None
    exempt = set_aside(first, replace(adapter, exempt={"CAP-01": Exemption("too hard", "https://example.org/1")}))
    assert exempt is not None
    assert (exempt.outcome, exempt.sentence) == (Outcome.EXEMPT, "too hard (https://example.org/1)")
    delegated = set_aside(second, replace(adapter, delegates_discovery=True))
    assert delegated is not None
    assert delegated.outcome is Outcome.DELEGATED
    unclaimed = set_aside(third, replace(adapter, claims=frozenset()))
    assert unclaimed is not None
    assert (unclaimed.outcome, unclaimed.sentence) == (Outcome.NOT_CLAIMED, "the adapter does not claim http2")


def test_a_report_that_lacks_a_case_is_refused() -> None:
    incomplete = results()
    del incomplete["CAP-02"]
    with pytest.raises(InternalError, match="CAP-02"):
        records.rows(CASES, incomplete)


def test_a_report_is_read_as_it_was_written(adapter: Adapter, tmp_path: Path) -> None:
    given = results(Outcome.FAIL)
    given["CAP-01"] = Result("CAP-01", Outcome.FAIL, "said \x1b[31m: \u2028é\n- ", "a", "b", 0.25, "CAP-01", ("n",))
    record = made(adapter, given)
    path = report_file.write(record, tmp_path)
    assert report_file.load(tmp_path) == report_file.load(path) == record
    assert list(tmp_path.iterdir()) == [path]
    assert next(iter(yaml.safe_load(path.read_text()))) == "schema_version"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda _: "a: [", "is not YAML"),
        (lambda text: text.replace("schema_version: 1", "schema_version: 2"), "schema_version: 1 was expected"),
        (lambda text: text.replace("outcome: pass", "outcome: fine", 1), "results.0.outcome: 'fine'"),
        (lambda text: text.replace("jobs: 2", "jobs: many"), "run.jobs: 'many'"),
    ],
)
def test_a_wrong_report_is_told_which_key(adapter: Adapter, tmp_path: Path, change: object, complaint: str) -> None:
    assert callable(change)
    path = report_file.write(made(adapter, results()), tmp_path)
    path.write_text(change(path.read_text()))
    with pytest.raises(ReportError, match=complaint):
        report_file.load(path)


def test_what_no_file_can_hold_is_escaped(adapter: Adapter, tmp_path: Path) -> None:
    given = results() | {"CAP-01": Result("CAP-01", Outcome.FAIL, seen="\udc80", notes=("\udcff",))}
    result = report_file.load(report_file.write(made(adapter, given), tmp_path)).results["CAP-01"]
    assert (result.seen, result.notes) == (r"\udc80", (r"\udcff",))


def test_a_missing_report_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be read: No such file"):
        report_file.load(tmp_path / "nowhere")


def test_the_summary_says_what_a_person_needs(adapter: Adapter) -> None:
    given = results(Outcome.PASS, Outcome.NON_STRICT)
    given["HTTP-07"] = Result("HTTP-07", Outcome.FAIL, "", "a thing", "\x1b[2Jnothing", 0.1, "HTTP-07", ("rude",))
    said = text(made(adapter, given), Path("out"), "my tapper.toml")
    assert said.index("HTTP-07 fail: It MUST hold.") < said.index("CAP-02 non-strict: It MUST hold.")
    assert "expected:     a thing\n" in said
    assert r"seen:         \x1b[2Jnothing" in said
    assert "evidence:     out/HTTP-07\n" in said
    assert "tapper-harness check --adapter 'my tapper.toml' --case HTTP-07\n" in said
    assert "HTTP-07: rude" in said
    assert "1 pass, 1 fail, 1 non-strict, in 1.5 s" in said
    assert "CAP-01" not in said


def test_a_run_in_a_cluster_says_how_it_was_and_how_to_repeat_a_case_there(adapter: Adapter, tmp_path: Path) -> None:
    """Only of the cases that are run there: others are refused with these options."""
    cluster = ClusterRun(("--kind", "--cluster-name", "my own"), 6.0)
    known = replace(made(adapter, results(Outcome.FAIL)), patience=1.5, cluster=cluster)
    (failed,) = known.to_look_at()
    mesh = replace(failed, result=replace(failed.result, case="MESH-03"))
    known = replace(known, rows=(failed, mesh))
    said = text(known, Path("out"), "mine.toml")
    alone = [line for line in said.splitlines() if "run it alone" in line]
    assert [line.partition("--patience 1.5")[2] for line in alone] == ["", " --kind --cluster-name 'my own'"]
    assert "In the cluster: 1 at a time, time limits 6 times those of the sandbox." in said
    assert report_file.load(report_file.write(known, tmp_path)).cluster == cluster


def test_an_unfinished_run_says_so(adapter: Adapter) -> None:
    assert "ended early" in text(made(adapter, results(), finished=False), Path("out"), "a")


def test_choosing(adapter: Adapter) -> None:
    judging = [case for case in catalogue().values() if case.group != "MESH"]
    everything = [case for case in judging if not case.long]
    assert choose(adapter, [], []) == everything
    assert choose(adapter, [], [], long=True) == judging
    assert [case.id for case in choose(adapter, [], ["LOAD-05"])] == ["LOAD-05"]
    assert {case.group for case in choose(adapter, ["TAP-MESH"], [])} == {"MESH"}
    assert [case.id for case in choose(adapter, [], ["CAP-03", "CAP-01"])] == ["CAP-01", "CAP-03"]
    assert choose(adapter, ["TAP-HTTP1"], []) == [case for case in everything if Profile.HTTP1.includes(case)]
    for profiles, cases, complaint in [
        ([], ["CAP-99"], "no case CAP-99: `tapper-harness cases` lists"),
        (["TAP-X"], [], "no profile TAP-X: there are TAP-PACKET, TAP-HTTP1, TAP-HTTP2"),
        (["TAP-PACKET"], [], "does not claim the profile TAP-PACKET: features.claims has no packets"),
    ]:
        with pytest.raises(SelectionError, match=complaint):
            choose(adapter, profiles, cases)


def test_only_a_report_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dear to me")
    with pytest.raises(SelectionError, match="not empty and holds no report"):
        prepare(tmp_path)
    (tmp_path / "report.yaml").touch()
    (tmp_path / "CAP-01").mkdir()
    prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_missed_should_stands_in_the_verdicts_words(adapter: Adapter) -> None:
    """LOAD-03, LOAD-04 and LIFE-07 are such: a tapper that loses much under load must not look spotless."""
    record = made(adapter, results(Outcome.PASS, Outcome.NON_STRICT))
    assert record.profiles["TAP-HTTP1"] == "success"
    words = "every core case was tried and passed, but it misses 1 SHOULD: CAP-02"
    assert record.in_words("TAP-HTTP1") == words
    assert f"TAP-HTTP1    success      {words}" in text(record, Path("there"), "reference")
    assert "SHOULD" not in record.in_words("TAP-PACKET")
    failed = made(adapter, results(Outcome.FAIL, Outcome.NON_STRICT))
    assert failed.in_words("TAP-HTTP1").endswith("hung or crashed; besides, it misses 1 SHOULD: CAP-02")


def test_a_must_of_one_profile_is_not_anothers(adapter: Adapter) -> None:
    """What asks for HTTP/2 counts in TAP-HTTP2 alone."""
    known = {case.id: Result(case.id, Outcome.PASS) for case in catalogue().values()}
    for case in catalogue().values():
        if Feature.HTTP2 in case.features:
            known[case.id] = Result(case.id, Outcome.FAIL, "why")
    judged = records.verdicts(records.rows(catalogue().values(), known), adapter.claims)
    assert (judged["TAP-HTTP1"], judged["TAP-HTTP2"]) == ("success", "failure")
    assert Feature.HTTP2 in catalogue()["SEC-11"].features
    assert Feature.HTTP2 not in catalogue()["SEC-04"].features
