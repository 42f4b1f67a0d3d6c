"""One canary through an adapter, step by step, for the adapter's author: what the kit saw, and what to do next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.adapters.contract import Adapter, Feature
from harness.adapters.observed import ReportedExchange, in_words
from harness.adapters.running import TapperFault
from harness.conformance import expect
from harness.conformance.tap import TrialTap, canary
from harness.conformance.trial import Trial
from harness.conformance.truth import Sent
from harness.conformance.verdict import Violation
from harness.conformance.watched import READY_S

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One checked point. `well` is None if there is nothing to judge."""

    well: bool | None
    what: str
    next: str = ""
    """The remedy, if something is wrong."""


def steps(adapter: Adapter, directory: Path, patience: float = 1.0) -> Iterator[Step]:
    """Run the tapper for one pod and one canary.

    `directory` gets the evidence. Raises only for the kit's own faults.
    """
    with Trial(adapter, directory, patience) as trial:
        pod = trial.pod("server")
        try:
            tap = trial.tap(pod, look=())
        except TapperFault as fault:
            yield Step(False, f"It was not started: {fault.seen}.", "Run the command of run.argv by hand.")
            return
        yield Step(True, f"Started: {in_words(' '.join(adapter.argv))}.")
        try:
            yield _ready(tap)
            began = time.monotonic()
            sent = tap.prove(lambda: canary(pod), "the canary, a request inside the pod")
            seen_after = time.monotonic() - began
            tap.settle(sent[-1:], pod)  # the answer, too
        except Violation as violation:
            yield Step(False, f"{type(violation).__name__}: {violation.seen}.", _why_silent(tap))
            sent = []
        else:
            yield Step(True, f"The canary was in its output after {seen_after:.2f} s.")
        running = tap.under_test.running
        tap.stop()
        yield _written(tap)
        if sent:
            seen = tap.under_test.output.seen()
            sightings = [each for one in sent for each in expect.of(one, seen)]
            for each in sightings[:_SHOWN]:
                yield Step(None, f"Sighting: {each}")
            yield _told(adapter, sent, sightings)
        if running:
            yield from _ending(tap, adapter, patience)
        trial.save()


def _ready(tap: TrialTap) -> Step:
    adapter = tap.under_test.adapter
    if not adapter.ready_by_fd and adapter.ready_line is None:
        return Step(None, "It does not say when it is ready; canaries find out.")
    try:
        tap.wait_declared_ready()
    except Violation as violation:
        if not tap.under_test.running:
            raise
        how = "a byte on the descriptor TAPPER_HARNESS_READY_FD" if adapter.ready_by_fd else "a line of standard error"
        return Step(False, f"It did not say that it is ready: {violation.seen}.", f"run.ready promises {how}.")
    return Step(True, "It said that it is ready.")


def _why_silent(tap: TrialTap) -> str:
    if not tap.under_test.running:
        return (
            f"It has to run, in the foreground, until it is stopped; its standard error is in {tap.directory}/stderr."
        )
    output = tap.under_test.output
    if any(output.everything()):
        return "It wrote something, and nothing of the canary: is it in the pod's namespace, on lo, without buffering?"
    where = {"stdout": "its standard output", "file": "the file", "directory": "*.pcap or *.pcapng in the directory"}
    return (
        f"It wrote nothing at all to {where[tap.under_test.adapter.to]} TAPPER_HARNESS_OUTPUT within "
        f"{READY_S * tap.patience:g} s: does it capture every port on the pod's lo, and write without a buffer?"
    )


def _written(tap: TrialTap) -> Step:
    output = tap.under_test.output
    if output.problems:
        what = "; ".join(in_words(problem) for problem in output.problems[:_SHOWN])
        return Step(False, f"In its output: {what}.", "docs/adapters.md says what a record looks like.")
    if tap.under_test.adapter.format == "ndjson":
        return Step(True, f"Its records could be read: {len(tap.records('http'))} of type http.")
    return Step(True, "Its packets could be read.")


def _told(adapter: Adapter, sent: list[Sent], sightings: list[ReportedExchange]) -> Step:
    found = {one.nonce: expect.of(one, sightings) for one in sent}
    seen = [one for one in sent if found[one.nonce]]
    if not seen:
        what = "a record whose target has it" if adapter.format == "ndjson" else "a packet with its request line"
        return Step(False, "The canary is mentioned, and not reported.", f"There has to be {what}.")
    try:
        expect.seen(seen, sightings, adapter, copies=1)
    except Violation as violation:
        claims = {Feature.POD_IDENTITY, Feature.DIRECTION} & adapter.claims
        doubt = f", or do not claim {' and '.join(sorted(claims))}" if claims else ""
        return Step(
            False, f"Expected {violation.expected}; seen: {violation.seen}.", f"Report each request once{doubt}."
        )
    return Step(True, "Each was reported once, and as it was sent.")


def _ending(tap: TrialTap, adapter: Adapter, patience: float) -> Iterator[Step]:
    ending = tap.ending
    assert ending is not None
    name = adapter.stop_signal.name
    if ending.killed:
        grace = adapter.stop_grace_s * patience
        yield Step(False, f"It did not end within {grace:g} s of {name}, and was killed.", f"Handle {name}.")
    elif ending.code not in (0, -adapter.stop_signal):
        yield Step(False, f"It ended with exit code {ending.code} when asked to.", "End with 0, or by the signal.")
    else:
        yield Step(True, f"It ended {ending.seconds:.2f} s after {name}.")
    if ending.strays:
        left = in_words(", ".join(ending.strays.values()))
        yield Step(False, f"It left behind: {left}.", "Stop and wait for every child before you end.")
    else:
        yield Step(True, "It left no process behind.")
