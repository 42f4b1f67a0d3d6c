"""The command `tapper-harness`.

Exit codes: 0 success, 1 something did not hold, 2 usage, 3 this machine lacks something, 4 the harness's own fault.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from harness.errors import HarnessError, Unsupported, lacks_package


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the command, turn errors into one sentence and an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        sys.stderr.write(f"tapper-harness: {lacks_package(error)}\n")
        return 3
    except Unsupported as error:
        sys.stderr.write(f"tapper-harness: {error}\n")
        return 3
    except HarnessError as error:
        sys.stderr.write(f"tapper-harness: {error}\n")
        return 4


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tapper-harness", description="A test harness for Kubernetes traffic tappers under service-mesh mTLS."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="see a tapper look through mTLS, on this machine",
        description="Replays the experiment of docs/istio.md with two real Envoys. Exit 0 if all steps hold.",
    )
    demo.add_argument("--requests", type=_positive, default=20, metavar="N", help="requests in each step (default 20)")
    demo.add_argument("--keep", action="store_true", help="leave the mesh up and print how to look around in it")
    demo.set_defaults(run=_demo)
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests: give 1 or more")
    return number


def _demo(arguments: argparse.Namespace) -> int:
    from rich.console import Console  # noqa: PLC0415 - usage errors shall not wait for imports

    from harness.demo import show  # noqa: PLC0415

    console = Console() if sys.stdout.isatty() else Console(width=show.WIDTH)
    return 0 if show.run(arguments.requests, arguments.keep, console) else 1


if __name__ == "__main__":
    sys.exit(main())
