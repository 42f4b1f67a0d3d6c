"""tapper-harness check --soak, and check --plan: conversations that are not cases of the catalogue."""

from __future__ import annotations

import argparse
import secrets
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.arguments import minutes, seed

if TYPE_CHECKING:
    from harness.adapters.contract import Adapter
    from harness.conformance.generated.soak import Failure, Played
    from harness.conformance.model import Result

_MOST_SEED = 1 << 32
_EVERY_S = 30.0


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the options to argparse."""
    group = parser.add_argument_group("generated conversations, in place of the cases")
    group.add_argument(
        "--soak",
        type=minutes,
        metavar="MINUTES",
        help="play new conversations for this time, and show the smallest that fails",
    )
    group.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="with --soak: the number of the first conversation; equal numbers play equal ones",
    )
    group.add_argument(
        "--plan", type=Path, metavar="FILE", help="play the conversation of this plan, which a soak has written"
    )


def asked_for(arguments: argparse.Namespace) -> bool:
    return arguments.soak is not None or arguments.plan is not None


def complaint(arguments: argparse.Namespace) -> str | None:
    """The error in the combination of options; None if there is none."""
    given = [
        option
        for option, there in (
            ("--case", arguments.case),
            ("--profile", arguments.profile),
            ("--long", arguments.long),
        )
        if there
    ]
    if asked_for(arguments) and given:
        return f"{given[0]} is about cases, and --soak and --plan play none: leave one of them out"
    if arguments.soak is not None and arguments.plan is not None:
        return "--soak plays new conversations and --plan one that is written down: leave one of them out"
    if arguments.seed is not None and arguments.soak is None:
        return "--seed is the number of a soak's first conversation: say for how long, with --soak MINUTES"
    return None


def run(arguments: argparse.Namespace, adapter: Adapter, directory: Path, jobs: int) -> int:
    """Exit code 0 if nothing failed, 1 if something did, 2 for a broken plan, 3 if it needs a feature that is not
    claimed, 4 for the kit's own errors, 130 if interrupted."""
    if arguments.plan is not None:
        return _play_one(arguments, adapter, directory)
    from harness.conformance.generated.soak import Soak

    first = arguments.seed if arguments.seed is not None else secrets.randbelow(_MOST_SEED)
    who = adapter.implementation
    print(f"{who.name} ({who.version}): new conversations for {arguments.soak:g} min, --seed {first}", flush=True)
    soak = Soak(adapter, directory, seconds=arguments.soak * 60, seed=first, jobs=jobs, patience=arguments.patience)
    played = soak.run(_Teller())
    print(_so_far(played))
    for number, failure in enumerate(played.failures.values(), start=1):
        print(_told(number, failure, arguments))
    for result in played.errors:
        print(f"the kit's own error: {result.sentence}")
    if played.interrupted:
        return 130
    return 1 if played.failures else 4 if played.errors else 0


class _Teller:
    """Report failures at once, and the progress from time to time."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, played: Played, result: Result) -> None:
        from harness.conformance.model import Outcome
        from harness.conformance.progress import line

        if result.outcome is not Outcome.PASS:
            print(line(result), flush=True)
        elif time.monotonic() - self._said >= _EVERY_S:
            self._said = time.monotonic()
            print(_so_far(played), flush=True)


def _so_far(played: Played) -> str:
    times = sum(failure.times for failure in played.failures.values())
    failed = f"{times} failures of {len(played.failures)} kinds" if times else "no failure"
    return f"{played.plans} plans, {played.conversations} conversations, {played.exchanges} exchanges: {failed}"


def _told(number: int, failure: Failure, arguments: argparse.Namespace) -> str:
    from harness.conformance.generated.soak import PLAN_FILE

    again = ["tapper-harness", "check", "--adapter", arguments.adapter, "--plan", str(failure.folder / PLAN_FILE)]
    if arguments.patience != 1:
        again += ["--patience", f"{arguments.patience:g}"]
    recorded = ", ".join(str(file) for file in sorted(failure.folder.glob("truth-*.pcap"))) or "none"
    return (
        f"\n{number}. {failure.result.outcome}, {failure.times} times: {failure.result.sentence}\n"
        f"   smallest: {failure.plan}\n   recorded: {recorded}\n   again:    {shlex.join(again)}"
    )


def _play_one(arguments: argparse.Namespace, adapter: Adapter, directory: Path) -> int:
    from harness.conformance.generated import plan_file, planned
    from harness.conformance.generated.checks import PlanError
    from harness.conformance.model import FAILED, Outcome
    from harness.conformance.progress import line
    from harness.conformance.record import USAGE
    from harness.conformance.schedule import Finished, Job, Workers
    from harness.conformance.worker import PLAN

    try:
        plan = plan_file.load(arguments.plan)
    except PlanError as error:
        sys.stderr.write(f"tapper-harness check: {error}\n")
        return USAGE
    print(f"{adapter.implementation.name} ({adapter.implementation.version}): {plan}", flush=True)
    folder = directory.resolve() / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(f"{PLAN}{arguments.plan.resolve()}", str(adapter.file), folder)
    with Workers(1, arguments.patience) as workers:
        results = [planned.judged(event.result) for event in workers.run([job]) if isinstance(event, Finished)]
    print(line(results[0]))
    print(f"evidence: {directory / plan.name}")
    if results[0].outcome is Outcome.PASS:
        return 0
    if results[0].outcome in FAILED:
        return 1
    return 4 if results[0].outcome is Outcome.ERROR else 3
