"""tapper-harness cases"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.conformance.model import Case


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe it."""
    parser = commands.add_parser(
        "cases",
        help="list the conformance cases, or explain some",
        description="Lists every case of the catalogue, or explains those that are named.",
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="a case to explain, like CAP-02; a group, like CAP")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0, or 2 for an id that there is not."""
    from harness.conformance.catalogue import cases

    there_are = cases()
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


def _explained(case: Case) -> str:
    facts = [
        f"Source: {case.source}",
        f"Needs: {needs(case) or 'nothing but a tapper'}",
        f"Profiles: {', '.join(case.profiles)}",
    ]
    return f"{case.id} ({case.level})\n\n{case.requirement}\n\n{case.explanation}\n\n" + "\n".join(facts)


def needs(case: Case) -> str:
    """The features that have to be claimed, and what else it takes."""
    also = [("discovery of its own", case.discovery), ("real Envoys", case.real_envoy)]
    return ", ".join([*sorted(case.features), *(what for what, needed in also if needed)])


def _list(cases: list[Case]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "level", "requirement", "needs", box=None, pad_edge=False)
    for case in cases:
        table.add_row(case.id, case.level.value, case.requirement, needs(case))
    (Console() if sys.stdout.isatty() else Console(width=160)).print(table, markup=False, highlight=False)
