"""tapper-harness cases"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import tables

if TYPE_CHECKING:
    from harness.conformance.model import Case


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "cases",
        help="list the conformance cases, or explain some",
        description="Lists every case of the catalogue, or explains those that are named.",
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="a case to explain, like CAP-02; a group, like CAP")
    parser.add_argument("--markdown", type=Path, metavar="DIR", help="write a page for each group, and an index, there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0, or 2 for an unknown id or a folder that cannot be written."""
    from harness.conformance.catalogue import cases

    there_are = cases()
    if arguments.markdown is not None:
        return _write_pages(arguments.markdown, there_are.values())
    chosen = [case for case in there_are.values() if {case.id, case.group} & set(arguments.ids)]
    unknown = set(arguments.ids) - {case.id for case in chosen} - {case.group for case in chosen}
    if unknown:
        groups = ", ".join(dict.fromkeys(case.group for case in there_are.values()))
        sys.stderr.write(
            f"tapper-harness cases: there is no case {', '.join(sorted(unknown))}: `tapper-harness cases` lists all "
            f"{len(there_are)}, in the groups {groups}\n"
        )
        return 2
    if chosen:
        print("\n\n".join(map(_explained, chosen)))
    else:
        _list(list(there_are.values()))
    return 0


def _write_pages(directory: Path, cases: Iterable[Case]) -> int:
    from harness.conformance.pages import pages

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in pages(cases).items():
            (directory / name).write_text(text)
    except OSError as error:
        sys.stderr.write(f"tapper-harness cases: {directory} cannot be written: {error.strerror}\n")
        return 2
    return 0


def _explained(case: Case) -> str:
    from harness.conformance.pages import needs

    facts = [
        f"Source: {case.source}",
        f"Needs: {needs(case) or 'nothing but a tapper'}",
        f"Profiles: {', '.join(case.profiles)}",
    ]
    return f"{case.id} ({case.level})\n\n{case.requirement}\n\n{case.explanation}\n\n" + "\n".join(facts)


def _list(cases: list[Case]) -> None:
    from harness.conformance.pages import needs

    rows = [(case.id, case.level.value, case.requirement, needs(case)) for case in cases]
    tables.show(("case", "level", "requirement", "needs"), rows)
