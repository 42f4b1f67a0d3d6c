"""tapper-harness report"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "report",
        help="merge the reports of several runs or tappers into one page",
        description="Reads the report.yaml of each folder and writes report.html, report.md and junit.xml. Runs of one "
        "tapper with one suite become one column: a case that one run left out may be in another.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a report's folder, or its report.yaml")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where the reports go (default: the folder itself, or tapper-harness-report/together for several)",
    )
    parser.add_argument(
        "--docs", metavar="ADDRESS", help="the folder of the cases' pages (docs/conformance), for links to them"
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write only a page of counts and failures, into this file"
    )
    parser.add_argument(
        "--reasons",
        type=Path,
        metavar="FILE",
        help="with --markdown: a TOML file of reasons for failures ([ADAPTER] CASE = 'why')",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0, or 2 for a broken report."""
    from harness.conformance.record import USAGE
    from harness.conformance.report_file import ReportError
    from harness.report import write
    from tapper.output.escape import escape

    folders: list[Path] = arguments.folders
    alone = folders[0] if folders[0].is_dir() else folders[0].parent
    output = arguments.output or (alone if len(folders) == 1 else Path("tapper-harness-report", "together"))
    try:
        tappers = write.read(folders)
        paths: tuple[Path, ...]
        if arguments.markdown is None:
            paths = write.write(tappers, output, arguments.docs)
        else:
            paths = (arguments.markdown,)
            known = write.reasons(arguments.reasons, tappers) if arguments.reasons else {}
            write.write_markdown(tappers, arguments.markdown, arguments.docs, known)
    except (ReportError, write.ReasonsError) as error:
        sys.stderr.write(f"tapper-harness report: {escape(str(error))}\n")
        return USAGE
    except OSError as error:
        sys.stderr.write(f"tapper-harness report: {output} cannot be written: {error.strerror}\n")
        return USAGE
    for tapper in tappers:
        verdicts = ", ".join(f"{name} {verdict}" for name, verdict in tapper.record.profiles.items())
        print(f"{escape(tapper.record.implementation.name)}: {verdicts}")
        for conflict in tapper.conflicts:
            print(f"  {escape(conflict)}")
    print("Written: " + ", ".join(map(str, paths)))
    return 0
