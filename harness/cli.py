"""The command `tapper-harness`.

Exit codes: 0 success, 1 a requirement did not hold, 2 usage, 3 something could not be tried, 4 a fault of the harness,
130 interrupted (SIGINT), 141 the reader of standard output has gone.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from harness import standard_output
from harness.commands import adapter, adapters, cases, check, demo, mutants, report
from harness.errors import HarnessError, Unsupported, lacks_package


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the command, turn errors into one sentence and an exit code."""
    standard_output.prepare()
    try:
        code = _run(argv)
        standard_output.finish()
        return code
    except KeyboardInterrupt:
        return 130
    except standard_output.ReaderGone:
        standard_output.drop()
        return standard_output.READER_GONE
    except ModuleNotFoundError as error:
        return _failed(str(lacks_package(error)), 3)
    except Unsupported as error:
        return _failed(str(error), 3)
    except HarnessError as error:
        return _failed(str(error), 4)
    except Exception:  # exit code 1 would blame the tapper
        return _failed(traceback.format_exc().rstrip(), 4)


def _failed(sentence: str, code: int) -> int:
    """Write the reason to standard error, if possible; the exit code tells in any case."""
    try:
        standard_output.finish()
    except HarnessError:
        standard_output.drop()  # Python would complain at exit
    sys.stderr.write(f"tapper-harness: {sentence}\n")
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit:  # after --help, or a sentence about the arguments
        standard_output.finish()
        raise
    return int(arguments.run(arguments))


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
