"""Handing cases to worker processes, so that a kit process that hangs or dies costs one case and not the run.

A worker (`harness.conformance.worker`) gets one job at a time as a line of JSON and answers with a line of JSON. The
thread that iterates over `Workers.run` does everything: there are no other threads, and nothing outlives
`Workers.close`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

import psutil

from harness.conformance import report_file
from harness.conformance.model import Case, Outcome, Result
from harness.errors import WaitTimeout
from harness.waiting import wait_until

CASE_LIMIT_S = 60.0
"""The longest that a case may take, in seconds; scales with --patience. No case is near it unless something hangs."""
JOBS_A_PROCESSOR = 3
MOST_JOBS = 8
WORKER = (sys.executable, "-m", "harness.conformance.worker")
_SLOW = (
    *("GEN-09", "LOAD-07", "LOAD-08", "LIFE-07", "TLS-10", "SEC-05", "GEN-07", "HTTP-28", "CAP-13", "GEN-06"),
    *("HTTP-21", "LIFE-09", "LOAD-09", "LIFE-05", "TLS-06", "GEN-03", "LIFE-04", "LOAD-03", "LOAD-04", "GEN-02"),
    *("LIFE-03", "LIFE-08", "NETNS-08", "TLS-05", "EDGE-04", "LIFE-11"),
)
"""The cases that take the reference two seconds and more, the slowest first."""
_SLOW_GROUPS = ("GEN", "LOAD", "LIFE", "SEC", "TLS")
_FAREWELL_S = 2.0
_STILL = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
_LOG_TAIL = 20_000
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, slots=True)
class Job:
    """One case with one adapter. `directory` gets the evidence."""

    case: str
    """The case's id, or `plan:` and the file of a plan."""
    adapter: str
    """The adapter's file, or `mutant:` and a mutant's name."""
    directory: Path
    extra_s: float = 0.0
    """The additional time that it may take, in seconds; scales with --patience."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker has begun with the job."""

    job: Job


@dataclass(frozen=True, slots=True)
class Finished:
    """The job has ended."""

    job: Job
    result: Result


def default_jobs() -> int:
    """Six workers for two processors, at most eight. A case waits two thirds of its time: for packets from the kernel,
    for a tapper to report or to fall silent."""
    return min(JOBS_A_PROCESSOR * (os.cpu_count() or 1), MOST_JOBS)


def longest_first(cases: Iterable[Case]) -> list[Case]:
    """Long cases first, so that short ones fill the end."""

    def rank(case: Case) -> tuple[object, ...]:
        slow = _SLOW.index(case.id) if case.id in _SLOW else len(_SLOW)
        return slow, not case.real_envoy, case.group not in _SLOW_GROUPS

    return sorted(cases, key=rank)


class Workers:
    """`count` worker processes, started when there is work for them. Leave it (`with`) or `close` it."""

    def __init__(
        self, count: int, patience: float = 1.0, *, limit_s: float = CASE_LIMIT_S, argv: Sequence[str] = WORKER
    ) -> None:
        self._patience = patience
        self._limit_s = limit_s * patience
        self._argv = argv
        self._slots: list[_Worker | None] = [None] * count

    def run(self, jobs: Iterable[Job]) -> Iterator[Started | Finished]:
        """Run the jobs in this order; results come as they are known. Never raises for a worker's fault.

        A job is taken from the iterator when a worker is free: there may be endlessly many.
        """
        waiting = iter(jobs)
        while True:
            for number, worker in enumerate(self._slots):
                if (worker is None or not worker.job) and (job := next(waiting, None)) is not None:
                    self._give(number, job)
                    yield Started(job)
            busy = [worker for worker in self._slots if worker is not None and worker.job]
            if not busy:
                return
            next_deadline = min(worker.deadline for worker in busy)
            readable = wait([worker.answers_fd for worker in busy], max(0.0, next_deadline - time.monotonic()))
            for number, worker in enumerate(self._slots):
                if worker is None or worker.job is None:
                    continue
                job = worker.job
                result = worker.answer() if worker.answers_fd in readable else None
                if result is None and not worker.dead and time.monotonic() >= worker.deadline:
                    result = self._too_late(worker, job)
                elif worker.dead:
                    result = _died(worker, job)
                if result is not None:
                    worker.job = None
                    if worker.dead:
                        worker.end()
                        self._slots[number] = None
                    yield Finished(job, result)

    def close(self) -> None:
        """End every worker, and everything that it runs."""
        for worker in self._slots:
            if worker is not None:
                worker.end()
        self._slots = [None] * len(self._slots)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _give(self, number: int, job: Job) -> None:
        worker = self._slots[number]
        if worker is None:
            worker = self._slots[number] = _Worker(self._argv)
        worker.give(job, self._patience, self._limit_of(job))

    def _limit_of(self, job: Job) -> float:
        return self._limit_s + job.extra_s * self._patience

    def _too_late(self, worker: _Worker, job: Job) -> Result:
        worker.kill()
        worker.keep_log(job.directory)
        limit_s = self._limit_of(job)
        return Result(
            job.case,
            Outcome.TIMEOUT,
            f"the case took longer than the {limit_s:g} s that it may take, and was ended",
            expected=f"an end within {limit_s:g} s",
            seen="none",
            seconds=limit_s,
            evidence=job.directory.name,
        )


class _Worker:
    """One worker process, and its job."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.job: Job | None = None
        self.deadline = 0.0
        self.dead = False
        self._began = 0.0
        self._said = b""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._log_from = 0
        paths = [_PACKAGE_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # the run handles a Ctrl-C at the terminal
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders = self._process.stdin
        self._answers = self._process.stdout
        self.answers_fd = self._answers.fileno()

    def give(self, job: Job, patience: float, limit_s: float) -> None:
        """Send it a job. A dead worker is noticed when its answer is read."""
        self.job = job
        self._began = time.monotonic()
        self.deadline = self._began + limit_s
        self._log_from = os.fstat(self._log.fileno()).st_size
        order = {
            "case": job.case,
            "adapter": job.adapter,
            "directory": str(job.directory),
            "patience": patience,
            "deadline": self.deadline,
            "run": os.getpid(),
        }
        try:
            self._orders.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            pass  # the worker is dead: its answer is the end of the stream

    def answer(self) -> Result | None:
        """Its answer, once that is complete. Sets `dead` at the end of its stream, and for a malformed answer."""
        chunk = os.read(self.answers_fd, 1 << 16)
        self._said += chunk
        if not chunk:
            try:
                self._process.wait(_FAREWELL_S)  # for its own exit code, instead of that of SIGKILL
            except subprocess.TimeoutExpired:
                pass
            self.kill()
            return None
        if not self._said.endswith(b"\n"):
            return None
        line, self._said = self._said, b""
        try:
            return Result.of(json.loads(line))
        except (ValueError, TypeError, KeyError):
            self.kill()
            return None

    @property
    def seconds(self) -> float:
        """Seconds since it got its job."""
        return time.monotonic() - self._began

    def obituary(self) -> str:
        """How the worker ended, in words."""
        code = self._process.returncode
        said = self.log().strip().splitlines()
        how = f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return how + (f": {said[-1]}" if said else "")

    def log(self) -> str:
        """The end of its standard error since it got its job."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(self._log_from, size - _LOG_TAIL)
        return os.pread(self._log.fileno(), size - start, start).decode(errors="replace")

    def keep_log(self, directory: Path) -> None:
        """Write its standard error beside the evidence; after a hang it tells where each thread was."""
        report_file.keep_error(directory, self.log() or "(it wrote nothing)\n")

    def kill(self) -> None:
        """Kill it, and wait until its nodes, which the kernel ends with it, are gone."""
        self.dead = True
        family = self._stopped_family()
        self._process.kill()
        self._process.wait()
        self._orders.close()
        self._answers.close()
        try:
            wait_until(lambda: not any(map(_lives, family)), "a killed worker's processes to end", _FAREWELL_S)
        except WaitTimeout:
            for process in family:
                with suppress(psutil.NoSuchProcess):  # it may end by itself at any moment
                    process.kill()

    def _stopped_family(self) -> list[psutil.Process]:
        """Its descendants, after it was stopped: it would start others while they are counted."""
        self._process.send_signal(signal.SIGSTOP)
        with suppress(psutil.NoSuchProcess):
            head = psutil.Process(self._process.pid)
            with suppress(WaitTimeout):
                wait_until(lambda: head.status() in _STILL, "a worker to be stopped", _FAREWELL_S)
            return head.children(recursive=True)
        return []

    def end(self) -> None:
        """End it: an idle worker gently, a busy one by SIGKILL."""
        if self.job is None and not self.dead:
            self._orders.close()
            try:
                self._process.wait(_FAREWELL_S)
            except subprocess.TimeoutExpired:
                pass
        if not self.dead:
            self.kill()
        self._log.close()


def _died(worker: _Worker, job: Job) -> Result:
    worker.keep_log(job.directory)
    return Result(
        job.case,
        Outcome.ERROR,
        f"the kit's own process ended in this case ({worker.obituary()})",
        seconds=worker.seconds,
        evidence=job.directory.name,
    )


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
