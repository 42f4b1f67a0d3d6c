"""tapper-harness demo"""

from __future__ import annotations

import argparse
import sys

from harness.commands.arguments import positive


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "demo",
        help="show a tapper that reads mTLS traffic, on this machine",
        description="Replays the experiment of docs/istio.md with two real Envoys. Exit 0 if all steps hold.",
    )
    parser.add_argument("--requests", type=positive, default=20, metavar="N", help="requests in each step (default 20)")
    parser.add_argument("--keep", action="store_true", help="leave the mesh up and print how to look around in it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 if all steps hold, else 1."""
    from rich.console import Console

    from harness.demo import show

    console = Console() if sys.stdout.isatty() else Console(width=show.WIDTH)
    return 0 if show.run(arguments.requests, arguments.keep, console) else 1
