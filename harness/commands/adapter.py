"""tapper-harness adapter new, tapper-harness adapter try"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from harness.commands import arguments as common


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the commands to argparse."""
    parser = commands.add_parser(
        "adapter", help="write an adapter: a skeleton, and a trial of it", description="For whoever writes an adapter."
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser(
        "new",
        help="write a commented skeleton",
        description="Writes adapter.toml and run.py, which work as they are where tcpdump is. Overwrites nothing.",
    )
    new.add_argument("name", nargs="?", default="my-tapper", metavar="NAME", help="the folder to make")
    new.set_defaults(run=run_new)
    attempt = actions.add_parser(
        "try",
        help="run one canary through an adapter and show what the kit saw",
        description="Starts the tapper for one pod, sends a request, stops it. Exit 0 all well, 1 something is not, "
        "2 usage, 3 the machine lacks something, 4 the kit's own error.",
    )
    attempt.add_argument("adapter", metavar="FILE|NAME", help="an adapter's file, or the name of one that ships")
    attempt.add_argument("--patience", type=common.patience, default=1.0, metavar="X", help="multiply every time limit")
    attempt.set_defaults(run=run_try)


def run_new(arguments: argparse.Namespace) -> int:
    """Exit code 0, or 2 if a file exists already."""
    from harness.adapters import skeleton
    from harness.adapters.contract import AdapterError

    folder = Path(arguments.name)
    try:
        written = skeleton.write(folder, folder.resolve().name)
    except AdapterError as error:
        sys.stderr.write(f"tapper-harness adapter new: {error}\n")
        return 2
    print("\n".join(f"Wrote {file}" for file in written))
    print(f"Next: tapper-harness adapter try {written[0]}")
    return 0


def run_try(arguments: argparse.Namespace) -> int:
    """Exit code 0 if every step is well, else 1; 2 for a wrong adapter."""
    from harness.adapters.contract import AdapterError
    from harness.conformance import tryout

    try:
        adapter = common.adapter(arguments.adapter)
    except AdapterError as error:
        sys.stderr.write(f"tapper-harness adapter try: {error}\n")
        return 2
    who = adapter.implementation
    print(f"{who.name} ({who.version}) claims {', '.join(sorted(adapter.claims)) or 'nothing'}", flush=True)
    evidence = Path(tempfile.mkdtemp(prefix="tapper-harness-try-"))
    well = True
    for step in tryout.steps(adapter, evidence, arguments.patience):
        mark = {True: "ok  ", False: "NO  ", None: "    "}[step.well]
        print(f"{mark}{step.what}", flush=True)
        if step.well is False:
            well = False
            print(f"      -> {step.next}")
    print(f"What it wrote is in {evidence}")
    print(
        f"Next: tapper-harness check --adapter {arguments.adapter}"
        if well
        else "Mend what is marked NO, and try again."
    )
    return 0 if well else 1
