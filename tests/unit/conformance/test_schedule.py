"""Workers that do what they should, die, hang, or talk nonsense: each costs its own case and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from adapter_files import adapter_file
from kit_command import ENVIRON

from harness.conformance import schedule
from harness.conformance.catalogue import cases
from harness.conformance.model import Case, Level, Outcome, Result
from harness.conformance.schedule import _SLOW, Finished, Job, Started, Workers, default_jobs, longest_first
from harness.waiting import wait_until

REFERENCE = Path(__file__).resolve().parents[3] / "harness/adapters/shipped/reference.toml"

FAKE_WORKER = """
import json, os, signal, subprocess, sys
for line in sys.stdin:
    case = json.loads(line)["case"]
    if case == "DIES":
        sys.exit("it fell over")
    if case == "KILLED":
        os.kill(os.getpid(), signal.SIGSEGV)
    if case == "HANGS":
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
        print(f"child {child.pid}", file=sys.stderr, flush=True)
        signal.pause()
    while case == "BREEDS":
        print(os.posix_spawn("/bin/sleep", [sys.argv[0], "60"], {}), file=sys.stderr, flush=True)
        print("nonsense", flush=True)
    if case == "RAVES":
        print("nonsense", flush=True)
        continue
    result = dict(case=case, outcome="pass", sentence=str(os.getpid()), expected="", seen="", seconds=0.1,
                  evidence=None, notes=[])
    print(json.dumps(result), flush=True)
"""

KILLED_RUN = """
import os, sys
from pathlib import Path
from harness.conformance.schedule import Job, Workers
late, adapter, directory = sys.argv[1:]
with Workers(1, argv=(sys.executable, "-c", late, str(os.getpid()))) as workers:
    for _ in workers.run([Job("CAP-01", adapter, Path(directory))]):
        print("given", flush=True)
"""
LATE_WORKER = """
import os, sys, time
while os.getppid() == int(sys.argv[1]):
    time.sleep(0.01)
from harness.conformance import worker
worker.main()
"""


@pytest.fixture
def argv(tmp_path: Path) -> tuple[str, ...]:
    program = tmp_path / "worker.py"
    program.write_text(FAKE_WORKER)
    return (sys.executable, str(program))


def run(workers: Workers, directory: Path, *names: str) -> dict[str, Result]:
    jobs = [Job(name, "unused", directory / name) for name in names]
    return {event.job.case: event.result for event in workers.run(jobs) if isinstance(event, Finished)}


def test_every_job_is_started_once_and_comes_back_once(tmp_path: Path, argv: tuple[str, ...]) -> None:
    names = [f"A-{number:02}" for number in range(7)]
    with Workers(3, argv=argv) as workers:
        events = list(workers.run([Job(name, "unused", tmp_path / name) for name in names]))
    assert [event.job.case for event in events if isinstance(event, Started)] == names
    finished = [event for event in events if isinstance(event, Finished)]
    assert sorted(event.job.case for event in finished) == names
    assert all(event.job.case == event.result.case for event in finished)
    assert 1 < len({event.result.sentence for event in finished}) <= 3


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("DIES", "exit code 1: it fell over"), ("KILLED", "killed by signal SIGSEGV"), ("RAVES", "killed by")],
)
def test_a_worker_that_dies_costs_one_case(tmp_path: Path, argv: tuple[str, ...], name: str, sentence: str) -> None:
    with Workers(1, argv=argv) as workers:
        results = run(workers, tmp_path, "A-01", name, "A-02", "A-03")
    assert {case for case, result in results.items() if result.outcome is Outcome.PASS} == {"A-01", "A-02", "A-03"}
    assert results[name].outcome is Outcome.ERROR
    assert sentence in results[name].sentence
    assert (tmp_path / name / "kit-error.txt").exists()


def test_a_process_that_ends_by_itself_meanwhile_is_no_error(
    tmp_path: Path, argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a worker that is killed: still there when it was looked at, and gone when it is to be killed."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as ended:
        process = psutil.Process(ended.pid)
    monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: [process])
    monkeypatch.setattr(schedule, "_lives", lambda _: True)
    monkeypatch.setattr(schedule, "_FAREWELL_S", 0.0)
    with Workers(1, argv=argv) as workers:
        results = run(workers, tmp_path, "RAVES", "A-01")
    assert {name: result.outcome for name, result in results.items()} == {"RAVES": Outcome.ERROR, "A-01": Outcome.PASS}


def test_what_a_worker_starts_until_it_is_killed_is_ended_with_it(tmp_path: Path, argv: tuple[str, ...]) -> None:
    """All of it, told or not: its processes are known by their names."""
    with Workers(1, argv=argv) as workers:
        run(workers, tmp_path, "BREEDS")
    assert (tmp_path / "BREEDS" / "kit-error.txt").read_text().split()[0].isdigit(), "the canary: there were some"
    wait_until(
        lambda: not named(argv[1]), "all that the worker has started to be gone", logs=lambda: str(named(argv[1]))
    )


def test_a_case_that_hangs_is_ended_at_the_limit_with_all_it_started(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with Workers(2, patience=0.5, limit_s=4, argv=argv) as workers:
        results = run(workers, tmp_path, "HANGS", "A-01", "A-02")
    assert results["HANGS"].outcome is Outcome.TIMEOUT
    assert "2 s" in results["HANGS"].sentence
    assert {results["A-01"].outcome, results["A-02"].outcome} == {Outcome.PASS}
    child = int((tmp_path / "HANGS" / "kit-error.txt").read_text().split()[1])
    assert gone(child)


def test_a_real_case_that_is_too_late_is_gone_with_its_node_and_tells_where_it_was(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    hanging = adapter_file(tmp_path, ["sleep", "1000"])
    with Workers(1, patience=0.5, limit_s=8) as workers:
        (event,) = (
            event
            for event in workers.run([Job("CAP-01", str(hanging), tmp_path / "CAP-01")])
            if isinstance(event, Finished)
        )
        assert set(filter(psutil.Process.is_running, psutil.Process().children(recursive=True))) <= before
    assert event.result.outcome is Outcome.TIMEOUT, event
    assert "harness/conformance/groups/cap.py" in (tmp_path / "CAP-01" / "kit-error.txt").read_text()


def test_leaving_a_run_early_leaves_nothing(tmp_path: Path, argv: tuple[str, ...]) -> None:
    before = set(psutil.Process().children(recursive=True))
    jobs = [Job(name, "unused", tmp_path / name) for name in ("HANGS", "A-01", "HANGS")]
    with Workers(2, argv=argv) as workers:
        first = next(event for event in workers.run(jobs) if isinstance(event, Finished))
    assert first.job.case == "A-01"
    wait_until(lambda: set(psutil.Process().children(recursive=True)) <= before, "the workers to be gone")


def test_a_worker_whose_run_is_killed_while_it_starts_does_not_begin(tmp_path: Path) -> None:
    hanging, evidence = adapter_file(tmp_path, ["sleep", "1000"]), tmp_path / "CAP-01"
    argv = [sys.executable, "-c", KILLED_RUN, LATE_WORKER, str(hanging), str(evidence)]
    with subprocess.Popen(argv, env=ENVIRON, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"given\n"
        (worker,) = psutil.Process(killed.pid).children()
        killed.kill()
    wait_until(lambda: gone(worker.pid), "the worker to end")
    assert not evidence.exists()


def test_workers_are_kept_from_run_to_run(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with Workers(1, argv=argv) as workers:
        first, second = run(workers, tmp_path, "A-01"), run(workers, tmp_path, "A-02")
    assert first["A-01"].sentence == second["A-02"].sentence


def test_the_worker_runs_a_case_and_says_what_became_of_it(tmp_path: Path) -> None:
    with Workers(1) as workers:
        jobs = [Job("CAP-03", str(REFERENCE), tmp_path / "a"), Job("CAP-03", "mutant:outgoing-copy", tmp_path / "b")]
        whole, broken = (event.result for event in workers.run(jobs) if isinstance(event, Finished))
    assert whole.outcome is Outcome.PASS, whole
    assert broken.outcome is Outcome.FAIL
    assert "too often" in broken.sentence


def test_long_cases_begin_first() -> None:
    def made(identifier: str, *, real_envoy: bool = False) -> Case:
        return Case(identifier, Level.MUST, "", print, real_envoy=real_envoy)

    order = longest_first(
        [made("CAP-01"), made("LIFE-01"), made("HTTP-21"), made("LIFE-07"), made("CAP-09", real_envoy=True)]
    )
    assert [case.id for case in order] == ["LIFE-07", "HTTP-21", "CAP-09", "LIFE-01", "CAP-01"]
    assert {case.id for case in longest_first(cases().values())} == set(cases())
    assert set(_SLOW) <= set(cases())


@pytest.mark.parametrize(("processors", "jobs"), [(None, 3), (1, 3), (2, 6), (4, 8), (64, 8)])
def test_there_are_more_jobs_than_processors(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, jobs: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert default_jobs() == jobs


def test_a_result_survives_the_way_through_json() -> None:
    result = Result("CAP-01", Outcome.NON_STRICT, "s", "e", "\udc80", 1.5, "CAP-01", ("a", "b"))
    assert Result.of(result.plain()) == result


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def named(name: str) -> list[int]:
    """The processes with this as argv[0]; a zombie has none."""
    return [each.pid for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [""])[0] == name]
