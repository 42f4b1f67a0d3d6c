"""tapper-harness mutants"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.arguments import add_jobs

if TYPE_CHECKING:
    from harness.conformance.model import Result
    from harness.conformance.mutants.model import Mutant
    from harness.conformance.mutants.streams import Record

_SIGNS = {"pass": ".", "fail": "F", "non-strict": "N", "timeout": "T", "error": "E", "blocked": "B"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "mutants",
        help="prove that the cases can fail: run tappers with deliberate faults",
        description="A mutant is a tapper with a deliberate fault. Each is run in the cases that have to find it. "
        "Exit 1 if a case passes it or fails it for another reason, or if a case has no mutant. "
        "Exit 2 for an unknown name.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants")
    parser.add_argument("--all", action="store_true", help="run every case with every mutant, not only its own")
    parser.add_argument("--list", action="store_true", help="list the mutants, and run none")
    parser.add_argument(
        "--wild",
        metavar="N|NAME",
        help="run N wild mutants or the named one instead, and list those that no case finds: each applies a rule "
        "under a condition, as drop+only-ipv6 leaves out exchanges over IPv6",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="chooses the N wild mutants: equal seeds choose equal ones (default: 1)"
    )
    add_jobs(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 if all are found, 1 if not, 2 for an unknown name."""
    from harness.conformance import mutation
    from harness.conformance.catalogue import cases
    from harness.conformance.mutants.catalogue import all_mutants

    if arguments.wild is not None:
        return _hunt(arguments.wild, arguments)
    there_are = all_mutants()
    unknown = sorted(set(arguments.names) - set(there_are))
    if unknown:
        sys.stderr.write(
            f"tapper-harness mutants: there is no mutant {', '.join(unknown)}: there are {', '.join(there_are)}\n"
        )
        return 2
    chosen = [mutant for name, mutant in there_are.items() if not arguments.names or name in arguments.names]
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.name:<24} {', '.join(mutant.breaks)}: {mutant.defect}")
        return 0
    pairs = [(mutant, case) for mutant in chosen for case in (cases() if arguments.all else mutant.breaks)]
    results = _results(pairs, arguments.jobs, arguments.patience)
    complaints = [
        complaint
        for mutant in chosen
        for case in mutant.breaks
        if (complaint := mutation.complaint(mutant, results[mutant.name, case])) is not None
    ]
    if not arguments.names:
        lonely = mutation.without_mutant(cases().values(), there_are.values())
        complaints += [f"{case} has no mutant that was made for it" for case in lonely]
    _print_matrix(chosen, [case for case in cases() if any(case == tried for _, tried in pairs)], results)
    print("\n".join(complaints) or f"each of the {len(chosen)} mutants is found by every case that was made for it")
    return 1 if complaints else 0


def _hunt(wanted: str, arguments: argparse.Namespace) -> int:
    """Exit code 0 if every wild mutant that a case reaches is found, 1 if not, 2 for an unknown name."""
    from harness.conformance import hunt
    from harness.conformance.mutants import wild
    from harness.conformance.mutants.conditions import CONDITIONS
    from harness.conformance.mutants.rules import RULES

    if not wanted.isdigit() and not wild.is_wild(wanted):
        sys.stderr.write(
            f"tapper-harness mutants: {wanted!r} is neither a number nor a wild mutant's name, which is a rule and one "
            f"or more conditions with plus signs between them: rules are {', '.join(RULES)}; conditions are "
            f"{', '.join(CONDITIONS)}\n"
        )
        return 2
    names = wild.sample(int(wanted), arguments.seed) if wanted.isdigit() else [wanted]
    with tempfile.TemporaryDirectory(prefix="tapper-harness-wild-") as folder:
        runs, seconds = _reference_runs(Path(folder), arguments)
    verdicts = hunt.hunt(
        names,
        runs,
        seconds,
        lambda pairs: _results([(wild.mutant(name), case) for name, case in pairs], arguments.jobs, arguments.patience),
    )
    print("\n".join(hunt.table(verdicts)))
    print("F found  . not found  - no case reaches it\n")
    survivors = [verdict for verdict in verdicts if verdict.survived]
    for verdict in survivors:
        print(f"{verdict.name} is not found by {', '.join(verdict.tried)}: {wild.mutant(verdict.name).defect}")
    if nowhere := hunt.unreached(runs):
        print(f"No case reaches these conditions: {', '.join(nowhere)}")
    found = sum(verdict.found_by is not None for verdict in verdicts)
    reached = sum(bool(verdict.tried) for verdict in verdicts)
    print(f"{found} of {reached} found; {len(verdicts) - reached} of {len(verdicts)} change nothing in any case")
    print(f"Again: tapper-harness mutants --wild {wanted} --seed {arguments.seed}")
    return 1 if survivors else 0


def _reference_runs(
    folder: Path, arguments: argparse.Namespace
) -> tuple[dict[str, list[list[Record]]], dict[str, float]]:
    """The outputs of the reference in every case that can be run here, and the time of each."""
    from harness.adapters import shipped
    from harness.conformance import hunt
    from harness.conformance.catalogue import cases
    from harness.conformance.progress import line
    from harness.conformance.schedule import Finished, Job, Workers, default_jobs, longest_first
    from harness.worlds.model import lacking
    from harness.worlds.sandbox import SandboxWorld

    here = [case for case in cases().values() if not (case.long or lacking(SandboxWorld.capabilities, case.needs))]
    reference = str(shipped.names()["reference"])
    work = [Job(case.id, reference, folder / case.id) for case in longest_first(here)]
    seconds = {}
    with Workers(arguments.jobs or default_jobs(), arguments.patience) as workers:
        for event in workers.run(work):
            if isinstance(event, Finished):
                seconds[event.job.case] = event.result.seconds
                sys.stderr.write(f"{'the reference':<24} {line(event.result)}\n")
    return hunt.runs_of(folder), seconds


def _results(pairs: Sequence[tuple[Mutant, str]], jobs: int | None, patience: float) -> dict[tuple[str, str], Result]:
    from harness.conformance.progress import line
    from harness.conformance.schedule import Finished, Job, Workers, default_jobs

    results = {}
    with tempfile.TemporaryDirectory(prefix="tapper-harness-mutants-") as folder:
        work = [Job(case, f"mutant:{mutant.name}", Path(folder) / mutant.name / case) for mutant, case in pairs]
        with Workers(jobs or default_jobs(), patience) as workers:
            for event in workers.run(work):
                if isinstance(event, Finished):
                    name = event.job.adapter.removeprefix("mutant:")
                    results[name, event.job.case] = event.result
                    sys.stderr.write(f"{name:<24} {line(event.result)}\n")
    return results


def _print_matrix(mutants: Sequence[Mutant], cases: Sequence[str], results: dict[tuple[str, str], Result]) -> None:
    """One row for a mutant, one column for a case; [F] if the case was made for the mutant."""
    width = max((len(mutant.name) for mutant in mutants), default=0)
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case.partition("-")[0], []).append(case)
    for group, members in groups.items():
        print(f"{group:<{width}} " + "".join(f" {case.partition('-')[2]} " for case in members))
        for mutant in mutants:
            cells = [_cell(mutant, case, results.get((mutant.name, case))) for case in members]
            if any(cell.strip() for cell in cells):
                print(f"{mutant.name:<{width}} " + "".join(cells).rstrip())
        print()
    print("F fail  N non-strict  . pass  T timeout  E error  B blocked  - set aside; [ ] made to find this mutant\n")


def _cell(mutant: Mutant, case: str, result: Result | None) -> str:
    if result is None:
        return "    "
    sign = _SIGNS.get(result.outcome, "-")
    return f"[{sign}] " if case in mutant.breaks else f" {sign}  "
