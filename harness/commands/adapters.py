"""tapper-harness adapters"""

from __future__ import annotations

import argparse

from harness.commands import tables


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "adapters", help="list the adapters that ship", description="Lists the adapters that `check` knows by name."
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Exit code 0."""
    from harness.adapters import contract, programs, shipped

    rows = []
    for name, file in shipped.names().items():
        adapter = contract.load(file, installed=False)
        missing = programs.missing(adapter)
        state = "ready" if missing is None else f"not here: {missing}"
        rows.append((name, adapter.implementation.name, ", ".join(sorted(adapter.claims)), state))
    tables.show(("adapter", "tapper", "claims", "state"), rows)
    return 0
