"""Playing new plans for a given time, and making those that fail smaller."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.adapters.contract import Adapter
from harness.conformance.generated import planned, shrinking
from harness.conformance.generated.plan import Plan
from harness.conformance.generated.plan_file import to_json
from harness.conformance.model import Outcome, Result
from harness.conformance.schedule import Finished, Job, Workers
from harness.conformance.worker import PLAN

MOST_KINDS = 5
"""A soak ends after so many kinds of failures, or so many errors of the kit."""
SHRINK_S = 60.0
"""How long a plan that fails is made smaller, in seconds; multiplied by --patience."""
_BATCH = 10
"""Plans that are drawn at once, with one seed."""
_VARYING = re.compile(r"nonce-[0-9a-f]+|\d+")
_OF_THE_KIT = (Outcome.ERROR, Outcome.BLOCKED)
PLAN_FILE = "plan.json"


@dataclass(slots=True)
class Failure:
    """One kind of failure."""

    plan: Plan
    result: Result
    folder: Path
    """Has the plan, the packets on each `lo` as pcap files, and the tapper's output."""
    times: int = 1


@dataclass(slots=True)
class Played:
    """The numbers of plans, connections and exchanges that were played, and the failures."""

    plans: int = 0
    conversations: int = 0
    exchanges: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    """By kind: the beginning of the sentence, without nonces and numbers."""
    errors: list[Result] = field(default_factory=list)
    """Results that are errors of the kit."""
    interrupted: bool = False

    def add(self, plan: Plan) -> None:
        self.plans += 1
        self.conversations += len(plan.talks)
        self.exchanges += plan.exchanges


class Soak:
    """`directory` gets a folder for each kind of failure. `run` it once."""

    def __init__(
        self, adapter: Adapter, directory: Path, *, seconds: float, seed: int, jobs: int, patience: float = 1.0
    ) -> None:
        self.played = Played()
        self._adapter = adapter
        self._directory = directory.resolve()
        self._seconds, self._seed, self._jobs, self._patience = seconds, seed, jobs, patience
        self._waiting: dict[str, Plan] = {}

    def run(self, report: Callable[[Played, Result], object]) -> Played:
        """Play until the time is over, and call `report` after each plan. Then make the plans that failed smaller."""
        try:
            with Workers(self._jobs, self._patience) as workers:
                for event in workers.run(self._work()):
                    if isinstance(event, Finished):
                        report(self.played, self._take(event))
            with Workers(1, self._patience) as workers:
                for failure in self.played.failures.values():
                    self._shrink(failure, workers)
        except KeyboardInterrupt:
            self.played.interrupted = True
        return self.played

    def _work(self) -> Iterator[Job]:
        """The jobs, until the time is over, which begins with the first job."""
        from harness.conformance.generated import drawing, strategies  # noqa: PLC0415 - hypothesis takes long

        strategy, seed = strategies.plans(self._adapter.claims), self._seed
        batch = drawing.drawn(strategy, seed, _BATCH)
        deadline = time.monotonic() + self._seconds
        while True:
            for number, plan in enumerate(batch):
                if (
                    time.monotonic() >= deadline
                    or max(len(self.played.failures), len(self.played.errors)) >= MOST_KINDS
                ):
                    return
                named = replace(plan, name=f"s{seed}-{number}")
                self._waiting[named.name] = named
                yield self._job(named)
            seed += 1
            batch = drawing.drawn(strategy, seed, _BATCH)

    def _job(self, plan: Plan, folder: str = "") -> Job:
        directory = self._directory / (folder or plan.name)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        (directory / PLAN_FILE).write_text(to_json(plan))
        return Job(f"{PLAN}{directory / PLAN_FILE}", str(self._adapter.file), directory)

    def _take(self, event: Finished) -> Result:
        directory = event.job.directory
        plan, result = self._waiting.pop(directory.name), planned.judged(event.result)
        self.played.add(plan)
        kind = _kind(result)
        if result.outcome in _OF_THE_KIT:
            self.played.errors.append(result)
        elif result.outcome is Outcome.PASS:
            shutil.rmtree(directory)
        elif kind in self.played.failures:
            self.played.failures[kind].times += 1
            shutil.rmtree(directory)
        else:
            self.played.failures[kind] = Failure(plan, result, directory)
        return result

    def _shrink(self, failure: Failure, workers: Workers) -> None:
        """Replace the failure's plan, and its folder, by those of the smallest plan that was found."""
        kind, kept = _kind(failure.result), failure.folder
        trial = f"{kept.name}-smaller"

        def fails(plan: Plan) -> bool:
            (finished,) = [event for event in workers.run([self._job(plan, trial)]) if isinstance(event, Finished)]
            result = planned.judged(finished.result)
            if result.outcome in (*_OF_THE_KIT, Outcome.PASS) or _kind(result) != kind:
                return False
            failure.result, failure.plan = result, plan
            shutil.rmtree(kept)
            (self._directory / trial).rename(kept)
            return True

        shrinking.smallest(failure.plan, fails, SHRINK_S * self._patience)
        shutil.rmtree(self._directory / trial, ignore_errors=True)


def _kind(result: Result) -> str:
    """The kind of a failure: the beginning of its sentence, without nonces and numbers."""
    return _VARYING.sub("#", result.sentence.partition(":")[0])
