"""The command `tapper-harness`.

Exit codes: 0 success, 1 something did not hold, 2 usage, 3 not all could be tried, 4 the harness's own fault.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from harness.commands import adapter, adapters, cases, check, demo, mutants, report
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
    except Exception:  # 1 would blame the tapper
        traceback.print_exc()
        return 4


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tapper-harness", description="A test harness for Kubernetes traffic tappers under service-mesh mTLS."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (demo, check, report, cases, adapters, adapter, mutants):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
