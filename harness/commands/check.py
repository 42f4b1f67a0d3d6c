"""tapper-harness check"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from harness.commands.arguments import adapter as load
from harness.commands.arguments import add_jobs


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe it."""
    parser = commands.add_parser(
        "check",
        help="judge a tapper: run the conformance cases that its adapter claims",
        description="Runs the conformance cases with a tapper and writes a report. Exit 0 success, 1 failure, 2 usage, "
        "3 partial (something was not tried), 4 the kit's own error.",
    )
    parser.add_argument(
        "--adapter", required=True, metavar="FILE|NAME", help="the tapper's adapter file, or the name of one that ships"
    )
    parser.add_argument("--profile", action="append", default=[], metavar="P", help="only its cases; may be repeated")
    parser.add_argument("--case", action="append", default=[], metavar="ID", help="only this case; may be repeated")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="where the report and the evidence go (default: tapper-harness-report/NAME-TIME here)",
    )
    add_jobs(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """The exit code of the record, 2 for wrong arguments, 130 when interrupted."""
    from harness.adapters.contract import AdapterError
    from harness.conformance import progress, summary
    from harness.conformance.record import USAGE
    from harness.conformance.schedule import default_jobs
    from harness.conformance.suite import Run, SelectionError

    try:
        adapter = load(arguments.adapter)
        directory = arguments.report or _default_directory(adapter.implementation.name)
        run = Run(
            adapter,
            directory,
            profiles=arguments.profile,
            cases=arguments.case,
            jobs=arguments.jobs or default_jobs(),
            patience=arguments.patience,
        )
        who = adapter.implementation
        print(f"{who.name} ({who.version}): {len(run.chosen)} cases", flush=True)
        interrupted = progress.follow(run)
    except (AdapterError, SelectionError) as error:
        sys.stderr.write(f"tapper-harness check: {error}\n")
        return USAGE
    record = run.record()
    print(summary.text(record, directory, arguments.adapter))
    return 130 if interrupted else record.exit_code()


def _default_directory(name: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "tapper"
    return Path("tapper-harness-report") / f"{slug}-{time.strftime('%Y%m%d-%H%M%S')}"
