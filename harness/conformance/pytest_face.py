"""The pytest side of the conformance cases: outcomes become passes, skips and failures that need no kit traceback.

Registered by `tapper_harness` where --harness-adapter is given.
"""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.adapters.contract import Adapter
from harness.conformance.catalogue import cases
from harness.conformance.charges import convicted
from harness.conformance.model import Case, Outcome, Result
from harness.conformance.schedule import Finished, Job, Workers
from harness.conformance.suite import reproduce
from harness.conformance.verdict import set_aside
from harness.errors import InternalError
from tapper.output.escape import escape

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_SKIPPED = frozenset({Outcome.NOT_CLAIMED, Outcome.DELEGATED, Outcome.EXEMPT})
FACE = "harness-conformance"
"""The plugin's name."""
_PROPERTY = "conformance"
_WARNING = "conformance_warning"


class Judge:
    """Runs cases with one adapter, in a worker that is kept for all of a test session."""

    def __init__(self, adapter: Adapter, patience: float) -> None:
        self._adapter = adapter
        self._workers = Workers(1, patience)

    def judge(self, case: Case, directory: Path) -> Result:
        """Run a case. `directory` gets the evidence."""
        aside = set_aside(case, self._adapter)
        if aside is not None:
            return aside
        job = Job(case.id, str(self._adapter.file), directory.resolve())
        for event in self._workers.run([job]):
            if isinstance(event, Finished):
                return by_itself(event.result, self._adapter)
        raise InternalError(f"{case.id} was given to a worker and never came back")

    def close(self) -> None:
        """End the worker."""
        self._workers.close()


class Face:
    """The plugin object: the adapter on trial, and the closing lines about missed SHOULDs."""

    def __init__(self, adapter: Adapter, patience: float) -> None:
        self._adapter = adapter
        self._patience = patience

    def judge(self) -> Judge:
        """The runner of this session's cases, which has to be closed."""
        return Judge(self._adapter, self._patience)

    def pytest_report_header(self) -> str:
        """The adapter on trial."""
        who = self._adapter.implementation
        return f"tapper-harness: the conformance of {escape(who.name)} ({escape(who.version)})"

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """List the SHOULD requirements that the tapper misses."""
        warnings = [
            str(text)
            for report in terminalreporter.getreports("passed")
            for name, text in report.user_properties
            if name == _WARNING
        ]
        if warnings:
            terminalreporter.section("conformance: not strict", yellow=True)
            for text in warnings:
                terminalreporter.line(text)


def by_itself(result: Result, adapter: Adapter) -> Result:
    """A test does not know the others, so a difference that the oracle saw fails this test, and the sentence names the
    case that it is about.

    Left out are differences in nearly every exchange, since that case's own test finds them, and cases that are not
    about this tapper.
    """
    for charge in result.charges:
        accused = cases()[charge.cases[-1]]
        if charge.everywhere or set_aside(accused, adapter) is not None or result.outcome is not Outcome.PASS:
            continue
        result = convicted(accused, result, [charge])
        result = replace(result, sentence=f"{accused.id}: {result.sentence}", evidence=charge.seen_in)
    return replace(result, charges=())


def evidence_folder(config: pytest.Config, tmp_path: Path, case: str) -> Path:
    """The folder of the evidence: below --harness-evidence if given, else in the test's own folder."""
    root: Path | None = config.getoption("--harness-evidence")
    return (tmp_path if root is None else root) / case


def conclude(request: pytest.FixtureRequest, case: Case, result: Result, directory: Path) -> None:
    """Turn the outcome of the case into the outcome of the test."""
    properties = request.node.user_properties
    properties.append((_PROPERTY, result.outcome.value))
    properties.extend(("conformance_note", escape(note)) for note in result.notes)
    if result.outcome is Outcome.PASS:
        return
    if result.outcome is Outcome.NON_STRICT:
        properties.append((_WARNING, f"{case.id} {case.requirement} {escape(result.sentence)}"))
        return
    if result.outcome in _SKIPPED:
        pytest.skip(f"{result.outcome}: {escape(result.sentence)}")
    if result.outcome is Outcome.BLOCKED and not request.config.getoption("--harness-require"):
        pytest.skip(f"blocked: {escape(result.sentence)}")
    pytest.fail(_failure(request.config, case, result, directory), pytrace=False)


def _failure(config: pytest.Config, case: Case, result: Result, directory: Path) -> str:
    told = {"expected": result.expected, "seen": result.seen} if result.expected else {"because": result.sentence}
    if result.outcome is Outcome.ERROR:
        told["whose fault"] = "the kit's own, not the tapper's"
    told["evidence"] = str(directory)
    lines = [f"{case.id} {result.outcome}: {case.requirement}"]
    for name, value in told.items():
        start = f"  {name + ':':<14}"
        lines.append(textwrap.fill(escape(value), 110, initial_indent=start, subsequent_indent=" " * len(start)))
    adapter, patience = str(config.getoption("--harness-adapter")), float(config.getoption("--harness-patience"))
    return "\n".join([*lines, f"  {'run it alone:':<14}{reproduce(adapter, case.id, patience)}"])
