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
    import tomllib

    from harness.adapters import shipped

    for name, file in shipped.names().items():
        # not contract.load: that asks the tapper for its version, and the tapper may not be installed
        document = tomllib.loads(file.read_text())
        print(f"{name:<16} {document['implementation']['name']}; claims {', '.join(document['features']['claims'])}")
    return 0
