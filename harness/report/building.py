"""Making a page of reports. Evidence is searched on the disk, everything else comes from the reports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from harness.conformance.record import CaseRow, RunRecord
from harness.conformance.suite import reproduce
from harness.report.merge import Merged
from harness.report.page import GROUPS, CaseView, Cell, Column, Group, Link, Page

_MOST_FILES = 60

Reasons = Mapping[str, Mapping[str, str]]
"""Name of the adapter file without its suffix -> case -> the reason of its failure."""


def build(
    merged: Sequence[Merged],
    output: Path,
    *,
    docs: str | None = None,
    explanations: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    reasons: Reasons | None = None,
) -> Page:
    """The page of these tappers, to be written into the folder `output`.

    `docs` is the address of the folder with the cases' pages, `explanations` maps a case to its explanation, and
    `names` the hash of an adapter's file to the name that the command knows it by. `reasons` are known reasons of
    failures.
    """
    labels = _labels([tapper.record for tapper in merged])
    columns = [
        Column(f"t{number}", label, tapper.record, tapper.conflicts, followable(tapper.record.implementation.url))
        for number, (tapper, label) in enumerate(zip(merged, labels, strict=True), 1)
    ]
    known: dict[str, CaseRow] = {}
    for tapper in merged:
        for row in tapper.record.rows:
            known.setdefault(row.result.case, row)
    cells = [
        _cells(column, tapper, output, names or {}, reasons or {})
        for column, tapper in zip(columns, merged, strict=True)
    ]
    views = [
        CaseView(
            row,
            tuple(column.get(case) for column in cells),
            _unwrapped((explanations or {}).get(case, "")),
            None if docs is None else f"{docs.rstrip('/')}/{case.partition('-')[0]}.md#{case.lower()}",
        )
        for case, row in known.items()
    ]
    groups = tuple(
        Group(name, GROUPS.get(name, name), tuple(view for view in views if view.group == name))
        for name in _ordered({view.group for view in views})
    )
    title = f"Conformance of {columns[0].label}" if len(columns) == 1 else f"Conformance of {len(columns)} tappers"
    return Page(title, tuple(columns), groups, _warnings(columns))


def _unwrapped(text: str) -> str:
    """Paragraphs as one line each."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _ordered(groups: set[str]) -> list[str]:
    order = list(GROUPS)
    return sorted(groups, key=lambda name: (order.index(name) if name in order else len(order), name))


def followable(url: str) -> str | None:
    """An address that a page may link to, which excludes scripts; None for others."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.netloc else None


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """The shortest names that tell the tappers apart."""
    for parts in (1, 2, 3):
        labels = [
            " · ".join((record.implementation.name, record.implementation.version, record.started)[:parts])
            for record in records
        ]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{label} ({number})" for number, label in enumerate(labels, 1)]


def _warnings(columns: Sequence[Column]) -> tuple[str, ...]:
    found = []
    suites = {column.record.suite_sha256 for column in columns}
    if len(suites) > 1:
        hashes = "; ".join(f"{column.label}: {column.record.suite_sha256[:12]}" for column in columns)
        found.append(f"These reports are of different suites, so equal ids may not mean equal cases ({hashes}).")
    found += [
        f"{column.label}: the run ended early; the cases that it did not come to are deselected."
        for column in columns
        if not column.record.finished
    ]
    found += [f"{column.label}: {conflict}" for column in columns for conflict in column.conflicts]
    return tuple(found)


def _cells(column: Column, merged: Merged, output: Path, names: Mapping[str, str], reasons: Reasons) -> dict[str, Cell]:
    record = merged.record
    adapter = names.get(record.adapter_sha256, record.adapter_file)
    cells = {}
    for row in record.rows:
        case = row.result.case
        files = _evidence(merged.origin[case], row.result.evidence, output)
        cells[case] = Cell(
            column,
            row,
            files[:_MOST_FILES],
            len(files[_MOST_FILES:]),
            reproduce(adapter, case, record.patience, record.cluster, seen_in=row.result.evidence),
            reasons.get(Path(record.adapter_file).stem, {}).get(case, ""),
        )
    return cells


def _evidence(directory: Path, folder: str | None, output: Path) -> tuple[Link, ...]:
    """Links to the files of a case's evidence, relative to the page. A folder outside the report's has none."""
    if folder is None or Path(folder).name != folder or folder == "..":
        return ()
    top = directory / folder
    base = output.resolve()
    # `os.walk` does not enter links to folders
    files = [Path(place) / name for place, _, names in os.walk(top) for name in names]
    return tuple(
        Link(
            str(file.relative_to(top)),
            quote(os.fsencode(os.path.relpath(directory.resolve() / folder / file.relative_to(top), base))),
        )
        for file in sorted(files)
        if file.is_file() and not file.is_symlink() and file.stat().st_size
    )
