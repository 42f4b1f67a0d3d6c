"""tapper-harness check"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import clusters, soak
from harness.commands.arguments import adapter as load
from harness.commands.arguments import add_jobs

if TYPE_CHECKING:
    from harness.conformance.suite import Run
    from harness.worlds.cluster.opening import ClusterOptions


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "check",
        help="judge a tapper: run the conformance cases that its adapter claims",
        description="Runs the conformance cases with a tapper and writes a report. Exit 0 success, 1 failure, 2 usage, "
        "3 partial (something was not tried), 4 the kit's own error.",
    )
    parser.add_argument(
        "--adapter", required=True, metavar="FILE|NAME", help="the tapper's adapter file, or the name of one that ships"
    )
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="P",
        help="run only the cases of this profile; may be repeated",
    )
    parser.add_argument("--case", action="append", default=[], metavar="ID", help="run only this case; may be repeated")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="where the report and the evidence go (default: tapper-harness-report/NAME-TIME here)",
    )
    parser.add_argument("--long", action="store_true", help="also the cases that take minutes, one after the other")
    add_jobs(parser)
    soak.add(parser)
    clusters.add(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """The record's exit code, 2 for wrong arguments, 130 if interrupted."""
    from harness.adapters.contract import AdapterError
    from harness.conformance import progress, summary
    from harness.conformance.record import USAGE
    from harness.conformance.schedule import default_jobs
    from harness.conformance.suite import Run, SelectionError, prepare
    from harness.report import write

    if (wrong := soak.complaint(arguments)) is not None:
        sys.stderr.write(f"tapper-harness check: {wrong}\n")
        return USAGE
    try:
        adapter = load(arguments.adapter)
        directory = arguments.report or _default_directory(adapter.implementation.name)
        if soak.asked_for(arguments):
            prepare(directory)
            return soak.run(arguments, adapter, directory, arguments.jobs or default_jobs())
        run = Run(
            adapter,
            directory,
            profiles=arguments.profile,
            cases=arguments.case,
            jobs=arguments.jobs or default_jobs(),
            patience=arguments.patience,
            long=arguments.long,
        )
        who = adapter.implementation
        with contextlib.ExitStack() as rest:
            value = vars(arguments).get
            if clusters.asked_for(value):
                _in_cluster(run, rest, clusters.options(value), clusters.given(arguments))
            print(f"{who.name} ({who.version}): {len(run.chosen)} cases", flush=True)
            write.clear(directory)
            interrupted = progress.follow(run)
    except (AdapterError, SelectionError) as error:
        sys.stderr.write(f"tapper-harness check: {error}\n")
        return USAGE
    record = run.record()
    paths = write.after_run(record, directory)
    print(summary.text(record, directory, arguments.adapter))
    print(f"To read: {directory / paths[0].name}, " + ", ".join(path.name for path in paths[1:]))
    return 130 if interrupted else record.exit_code()


def _in_cluster(run: Run, rest: contextlib.ExitStack, options: ClusterOptions, given: tuple[str, ...]) -> None:
    """Open the cluster, which `rest` closes, and run the cases of the group MESH there. `given` are its options as they
    were written.

    Raises SelectionError.
    """
    from harness.conformance.mesh import clustered
    from harness.conformance.record import ClusterRun
    from harness.conformance.suite import SelectionError
    from harness.worlds.cluster import adapted, progress
    from harness.worlds.cluster.opening import opened

    adapter = run.adapter
    if not any(case.scenario for case in run.chosen):
        raise SelectionError("a cluster is for the cases of the group MESH: ask for them with --profile TAP-MESH")
    if adapter.cluster is None:
        raise SelectionError(f"{adapter.file.name} has no table cluster, which says how the tapper runs in one")
    adapted.load(adapter.file, adapter.cluster)  # find its errors before a cluster is made
    session = rest.enter_context(opened(options, progress.teller()))
    run.in_cluster = lambda case, directory: clustered.run(case, adapter, session, directory, run.patience)
    run.cluster = ClusterRun(given, clustered.LIMITS * run.patience)
    run.envoy = f"of the cluster's Istio (Kubernetes {session.api.version()})"


def _default_directory(name: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "tapper"
    return Path("tapper-harness-report") / f"{slug}-{time.strftime('%Y%m%d-%H%M%S')}"
