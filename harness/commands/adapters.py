"""tapper-harness adapters"""

from __future__ import annotations

import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe it."""
    parser = commands.add_parser(
        "adapters", help="list the adapters that ship", description="Lists the adapters that `check` knows by name."
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Always 0."""
    from harness.adapters import contract, programs, shipped

    for name, file in shipped.names().items():
        adapter = contract.load(file, installed=False)
        lack = programs.missing(adapter)
        state = "ready" if lack is None else f"not here: {lack}"
        print(f"{name:<16} {adapter.implementation.name}; claims {', '.join(sorted(adapter.claims))}; {state}")
    return 0
