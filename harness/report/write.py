"""Making the reports for people from folders with report.yaml."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.adapters import shipped
from harness.conformance import report_file
from harness.conformance.catalogue import cases
from harness.conformance.record import RunRecord
from harness.conformance.suite import suite_hash
from harness.errors import HarnessError
from harness.report import junit, render
from harness.report.building import Reasons, build
from harness.report.merge import Merged, StoredReport, merge
from harness.report.page import Page

FORMATS: Mapping[str, Callable[[Page], str]] = {
    "report.html": render.html,
    "report.md": render.markdown,
    "junit.xml": junit.render,
}


def read(folders: Sequence[Path]) -> tuple[Merged, ...]:
    """The tappers in these reports. Raises `ReportError` for a broken file."""
    return merge(
        StoredReport(report_file.load(folder), folder if folder.is_dir() else folder.parent) for folder in folders
    )


class ReasonsError(HarnessError):
    """A file of reasons that cannot be read, or that explains a case which did not fail."""


def reasons(path: Path, tappers: Sequence[Merged]) -> Reasons:
    """Read the reasons of failures: a table for each adapter, in it case = "why". Raises `ReasonsError`.

    A reason for a case that passes, or that does not exist, is an error: it is out of date.
    """
    try:
        known = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReasonsError(f"{path} cannot be read: {error}") from None
    looked_at = {
        (Path(tapper.record.adapter_file).stem, row.result.case)
        for tapper in tappers
        for row in tapper.record.to_look_at()
    }
    for adapter, table in known.items():
        for case in table:
            if (adapter, case) not in looked_at:
                raise ReasonsError(f"{path}: {adapter}.{case}: no report here has anything to explain about this case")
    return known


def write_markdown(tappers: Sequence[Merged], path: Path, docs: str | None, known: Reasons) -> None:
    """Write the matrix of counts and the failures with their reasons into a file."""
    page = build(tappers, path.parent, docs=docs, names=_names(), reasons=known)
    path.write_text(render.matrix(page, docs), encoding="utf-8")


def write(tappers: Sequence[Merged], output: Path, docs: str | None = None) -> tuple[Path, ...]:
    """Write all formats into a folder, which is made if missing. Returns their paths.

    Explanations of cases are included if the reports are of the installed suite.
    """
    known = all(tapper.record.suite_sha256 == suite_hash() for tapper in tappers)
    explanations = {case.id: case.explanation for case in cases().values()} if known else {}
    page = build(tappers, output, docs=docs, explanations=explanations, names=_names())
    output.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rendered in FORMATS.items():
        path = output / name
        fresh = output / f".{name}.new"
        try:
            fresh.write_text(rendered(page), encoding="utf-8")
            paths.append(fresh.replace(path))
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
    return tuple(paths)


def after_run(record: RunRecord, directory: Path) -> tuple[Path, ...]:
    """Write all formats beside the report.yaml of a run that has ended. Raises `Unsupported` if that fails."""
    with report_file.told_where(directory):
        return write(merge([StoredReport(record, directory)]), directory)


def clear(directory: Path) -> None:
    """Remove the files of an older run."""
    if (directory / report_file.NAME).exists():
        for name in FORMATS:
            (directory / name).unlink(missing_ok=True)


def _names() -> dict[str, str]:
    """Hash of an adapter file -> name of the shipped adapter: reports do not say in which folder an adapter lay."""
    return {hashlib.sha256(file.read_bytes()).hexdigest(): name for name, file in shipped.names().items()}
