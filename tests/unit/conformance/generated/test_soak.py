"""A soak: what is drawn, what becomes of what fails, and what is said of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from adapter_files import adapter_file
from kit_command import COMMAND, ENVIRON, command

from harness.adapters import contract
from harness.adapters.contract import Feature
from harness.conformance.generated import drawing, planned, shrinking, soak, strategies
from harness.conformance.generated.plan import (
    BURST,
    ENVOY_RETURNS,
    HTTP2,
    ITSELF,
    Content,
    Happening,
    Plan,
    PlannedExchange,
    Talk,
)
from harness.conformance.generated.plan_file import to_json
from harness.conformance.model import Charge, Outcome, Result
from harness.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[4]
EVERYTHING = frozenset(Feature)


def test_the_same_seed_draws_the_same_plans() -> None:
    strategy = strategies.plans(EVERYTHING)
    assert drawing.drawn(strategy, 7, 8) == drawing.drawn(strategy, 7, 8)
    assert drawing.drawn(strategy, 7, 8) != drawing.drawn(strategy, 8, 8)


@pytest.mark.parametrize("claims", [frozenset(), frozenset({Feature.HTTP1}), frozenset({Feature.TARGETS_DYNAMIC})])
def test_nothing_is_drawn_that_is_not_claimed(claims: frozenset[Feature]) -> None:
    drawn = drawing.drawn(strategies.plans(claims), 1, 10)
    assert drawn
    assert all(plan.features <= claims for plan in drawn)


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_that_fails_is_made_smaller(seed: int) -> None:
    """Here those fail in which a pod's call to itself is answered with 500 and more than 99 bytes."""

    def fails(plan: Plan) -> bool:
        return any(
            talk.direction == ITSELF and each.status == 500 and each.response.size > 99
            for talk in plan.talks
            for each in talk.exchanges
        )

    drawn = drawing.drawn(strategies.THEMES["http1"].draw(), seed, 10)
    (largest, *_) = sorted(drawn, key=lambda plan: -plan.exchanges)
    wrong = Talk(direction=ITSELF, exchanges=(PlannedExchange(status=500, response=Content(3000)),), together=3)
    failing = replace(largest, talks=(*largest.talks, wrong))
    found = shrinking.smallest(failing, fails, 60.0)
    wanted = Talk(direction=ITSELF, exchanges=(PlannedExchange(status=500, response=Content(100)),))
    assert found == Plan(name=failing.name, talks=(wanted,))


def test_a_pod_that_is_not_needed_goes() -> None:
    plan = Plan(pods=4, talks=(Talk(0), Talk(3)), happenings=(Happening(ENVOY_RETURNS, 2), Happening(BURST, 3)))

    def fails(plan: Plan) -> bool:
        return any(each.what == BURST for each in plan.happenings)

    found = shrinking.smallest(plan, fails, 60.0)
    assert found in (
        Plan(pods=1, talks=(Talk(),), happenings=(Happening(BURST, 0),)),
        Plan(pods=2, talks=(Talk(0),), happenings=(Happening(BURST, 1),)),
    )


def test_making_smaller_ends_when_its_time_is_over() -> None:
    plan = Plan(talks=(Talk(), Talk()))
    assert shrinking.smallest(plan, lambda _: pytest.fail("too late"), 0.0) == plan


def test_a_plan_that_does_not_fail_again_stays_as_it_is() -> None:
    plan = Plan(talks=(Talk(rounds=3), Talk()))
    assert shrinking.smallest(plan, lambda _: False, 60.0) == plan


def test_what_the_oracle_says_fails_a_plan() -> None:
    passed = Result("PLAN-00", Outcome.PASS)
    assert planned.judged(passed) == passed
    charge = Charge(("HTTP-07", "CAP-02"), "PLAN-00", "one thing", "another")
    judged = planned.judged(replace(passed, charges=(charge, charge)))
    assert judged.outcome is Outcome.FAIL
    assert judged.sentence == "expected one thing; seen: another, which is what HTTP-07 is about (and 1 more)"


def wrong(folder: Path, name: str) -> Path:
    """An adapter of a tapper that is wrong."""
    argv = [sys.executable, "-m", "harness.conformance.mutants", name.replace("_", "-")]
    return adapter_file(folder, argv, claims=("http1", "direction"), env={"PYTHONPATH": str(REPOSITORY)})


def test_a_wrong_tapper_is_shown_by_a_small_conversation_that_can_be_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "SHRINK_S", 10.0)
    monkeypatch.setattr(soak, "MOST_KINDS", 1)
    file = wrong(tmp_path, "targets_cut")
    run = soak.Soak(contract.load(file), tmp_path / "out", seconds=60, seed=4, jobs=2, patience=2)
    sizes: list[int] = []
    played = run.run(lambda played, _: sizes.extend(each.plan.exchanges for each in played.failures.values()))
    (failure, *_) = played.failures.values()
    assert "target" in failure.result.sentence
    assert failure.plan.exchanges < sizes[0] or sizes[0] == 1
    assert (failure.folder / soak.PLAN_FILE).read_text() == to_json(failure.plan)
    assert list(failure.folder.glob("truth-*.pcap"))
    kept = {failure.folder.name for failure in played.failures.values()}
    assert {each.name for each in (tmp_path / "out").iterdir()} == kept
    plan = str(failure.folder / soak.PLAN_FILE)
    done = command(tmp_path, "check", "--adapter", file.name, "--plan", plan, "--report", "again", "--patience", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fail" in done.stdout


def test_a_plan_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    for plan, code in ((Plan(), 0), (Plan(talks=(Talk(protocol=HTTP2),)), 0)):
        file.write_text(to_json(plan))
        done = command(
            tmp_path, "check", "--adapter", "reference", "--plan", file.name, "--report", f"out-{plan.features}"
        )
        assert done.returncode == code, done.stdout + done.stderr
    little = adapter_file(tmp_path, ["true"], claims=())
    done = command(tmp_path, "check", "--adapter", little.name, "--plan", file.name, "--report", "out")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "does not claim http2" in done.stdout


def test_an_interrupt_ends_a_soak_and_says_what_is_known(tmp_path: Path) -> None:
    # a shell has its background jobs ignore SIGINT, and what they start
    argv = ["env", "--default-signal=INT", *COMMAND]
    argv += ["check", "--adapter", "reference", "--soak", "60", "--report", "out", "--jobs", "1"]
    with subprocess.Popen(argv, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, text=True) as running:
        wait_until(lambda: any((tmp_path / "out").glob("*/tap-1/stdout")), "a tapper to be on trial", 60)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130, out
    assert "exchanges: no failure" in out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--soak", "0"], "'0' is no number of minutes"),
        (["--soak", "1", "--seed", "-1"], "--seed"),
        (["--soak", "1", "--case", "CAP-01"], "--case is about cases, and --soak and --plan play none"),
        (["--soak", "1", "--long"], "--long is about cases"),
        (["--soak", "1", "--plan", "a.json"], "leave one of them out"),
        (["--seed", "1"], "--seed is the number of a soak's first conversation"),
        (["--plan", "nowhere.json"], "nowhere.json cannot be read"),
        (["--plan", "wrong.json"], "wrong.json is no plan: the plan: pods has to be from 1 to 5"),
    ],
)
def test_wrong_arguments_are_a_sentence(tmp_path: Path, argv: list[str], sentence: str) -> None:
    (tmp_path / "wrong.json").write_text(json.dumps({"pods": 6}))
    done = command(tmp_path, "check", "--adapter", "reference", "--report", "out", *argv)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
