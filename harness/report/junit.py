"""JUnit XML, as continuous integration reads it: a suite for each tapper, a test case for each case."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from harness.conformance.model import Outcome
from harness.report.page import Cell, Column, Page
from harness.report.text import visible

_BAD = {Outcome.FAIL: "failure", Outcome.TIMEOUT: "failure", Outcome.ERROR: "error"}
_TRIED = {Outcome.PASS, Outcome.NON_STRICT, *_BAD}


def render(page: Page) -> str:
    """The document. Cases that were not tried are skipped, with the sentence; a missed SHOULD passes, with a note."""
    suites = ET.Element("testsuites", name="tapper-harness")
    for number, column in enumerate(page.columns):
        cells = [cell for case in page.cases if (cell := case.cells[number])]
        suites.append(_suite(column, cells))
    ET.indent(suites)
    return ET.tostring(suites, "unicode", xml_declaration=False).join(
        ['<?xml version="1.0" encoding="utf-8"?>\n', "\n"]
    )


def _suite(column: Column, cells: list[Cell]) -> ET.Element:
    record = column.record
    counts = record.count()
    suite = ET.Element(
        "testsuite",
        name=visible(column.label),
        tests=str(len(cells)),
        failures=str(sum(counts.get(outcome, 0) for outcome, name in _BAD.items() if name == "failure")),
        errors=str(counts.get(Outcome.ERROR, 0)),
        skipped=str(sum(number for outcome, number in counts.items() if outcome not in _TRIED)),
        time=f"{record.seconds:.3f}",
        timestamp=record.started.removesuffix("Z"),
    )
    _properties(
        suite,
        {
            "implementation": f"{record.implementation.name} {record.implementation.version}",
            "suite": f"{record.suite_version} {record.suite_sha256}",
            "kernel": record.environment.kernel,
            "envoy": record.environment.envoy,
            **{f"profile {name}": verdict for name, verdict in record.profiles.items()},
        },
    )
    for cell in cells:
        suite.append(_case(cell))
    return suite


def _case(cell: Cell) -> ET.Element:
    row, result = cell.row, cell.row.result
    element = ET.Element(
        "testcase",
        classname=result.case.partition("-")[0],
        name=visible(f"{result.case} {row.requirement}"),
        time=f"{result.seconds:.3f}",
    )
    _properties(
        element,
        {"level": row.level, "outcome": cell.outcome, "evidence": result.evidence or "", "reproduce": cell.reproduce},
    )
    details = {"expected": result.expected, "seen": result.seen, "reproduce": cell.reproduce}
    text = "\n".join(f"{name}: {value}" for name, value in details.items() if value)
    if (bad := _BAD.get(result.outcome)) is not None:
        ET.SubElement(element, bad, message=visible(result.sentence), type=cell.outcome).text = visible(text)
    elif result.outcome not in _TRIED:
        ET.SubElement(element, "skipped", message=visible(f"{cell.outcome}: {result.sentence}"))
    notes = [*([f"{cell.outcome}: {result.sentence}"] if result.outcome is Outcome.NON_STRICT else []), *result.notes]
    if notes:
        ET.SubElement(element, "system-out").text = visible("\n".join(notes))
    return element


def _properties(parent: ET.Element, values: dict[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", name=name, value=visible(value))
