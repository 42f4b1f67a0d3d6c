"""`python -m bench`, which script/bench runs."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import document, endurance, kit, own_tls, plot, prices, profile, result, rounds, scaling, table
from bench.peers import PEERS, TAPPER, Peer, by_name
from harness.errors import HarnessError

REPOSITORY = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests and one round: three minutes")
    parser.add_argument("--rounds", type=int, choices=(1, 2, 3), default=3, help="at most (default: 3, in 15 minutes)")
    parser.add_argument("--only", type=_peers, default=PEERS, metavar="PEER[,PEER…]", help="these peers, no others")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the curves and the profile")
    parser.add_argument("--kit", action="store_true", help="measure only the harness itself: half a minute")
    parser.add_argument("--prices", action="store_true", help="measure only what hostile traffic costs: two minutes")
    parser.add_argument("--tls", action="store_true", help="measure only what tap --tls costs: a minute")
    parser.add_argument("--endurance", action="store_true", help="measure only what is kept after very much: an hour")
    parser.add_argument("--output", type=Path, metavar="DIR", help="save table, figures and plot there")
    parser.add_argument(
        "--write-docs", action="store_true", help="save into docs/ and make docs/performance.md of the last saved run"
    )
    parser.add_argument("--no-run", action="store_true", help="measure nothing: only --write-docs, of the last run")
    arguments = parser.parse_args(argv)
    docs = REPOSITORY / "docs" / "performance"
    if arguments.kit:
        return _tell(lambda: kit.table(list(kit.measure(3 if arguments.quick else 10))))
    if arguments.endurance:
        return _tell(lambda: endurance.table(quick=arguments.quick))
    if arguments.prices:
        return _tell(lambda: prices.table(list(prices.measure(0.2 if arguments.quick else 1.0))))
    if arguments.tls:
        return _tell(lambda: own_tls.table(list(own_tls.measure(5_000 if arguments.quick else 60_000))))
    if arguments.no_run:
        found = result.load(docs / "bench.json")
    else:
        try:
            found = run(arguments)
        except HarnessError as error:
            sys.stderr.write(f"bench: {error}\n")
            return 3
        sys.stdout.write(table.everything(found))
    for directory in [arguments.output] if arguments.output else []:
        found.save(directory)
        (directory / "bench.md").write_text(table.everything(found), encoding="utf-8")
        plot.draw(found, directory / "bench.png")
    if arguments.write_docs:
        found.save(docs)
        plot.draw(found, docs / "bench.png")
        (REPOSITORY / "docs" / "performance.md").write_text(document.page(found), encoding="utf-8")
    return 0


def _tell(make: Callable[[], str]) -> int:
    """Print what is measured."""
    try:
        sys.stdout.write(make())
    except HarnessError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 3
    return 0


def _peers(names: str) -> tuple[Peer, ...]:
    try:
        return by_name(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> result.Result:
    """Measure. The result also has the failures of peers and curves."""

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")

    began = time.monotonic()
    found = result.Result(arguments.quick, machine=result.machine())
    found.versions, found.absent = result.versions(arguments.only)
    for name, lacks in found.absent.items():
        say(f"{name} is absent: {lacks}")
    present = [peer for peer in arguments.only if peer.name in found.versions]
    plan = rounds.QUICK if arguments.quick else rounds.FULL
    found.measurements += rounds.run(plan, present, say, arguments.rounds)
    if not arguments.no_scaling:
        for name, curve in scaling.curves(quick=arguments.quick).items():
            try:
                for point in curve:
                    say(f"{point.series}: {point.x:g}: {point.y:.4g} {point.unit}")
                    found.points.append(point)
            except (HarnessError, OSError) as error:
                found.problems.append(f"{name}: {' '.join(str(error).split())[:300]}")
    if TAPPER in found.versions and not arguments.no_scaling:
        say("profile")
        try:
            found.profile = profile.take(profile.QUICK if arguments.quick else profile.WORKLOAD)
        except (HarnessError, OSError) as error:
            found.problems.append(f"profile: {' '.join(str(error).split())[:300]}")
    found.machine["took"] = f"{(time.monotonic() - began) / 60:.1f} minutes"
    found.machine["load after"] = result.load_average()
    return found


if __name__ == "__main__":
    sys.exit(main())
