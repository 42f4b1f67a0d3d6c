"""A tapper on trial: started, proven to look, made to end, and then asked what it saw."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.adapters.observed import Seen, in_words
from harness.adapters.packets import Capture, Packet
from harness.adapters.running import Ending, Target, UnderTest
from harness.conformance import expect, truth
from harness.conformance.truth import INBOUND, OUTBOUND, Sent
from harness.conformance.verdict import Late, NotClaimed, TapperDied, Violation
from harness.errors import InternalError, WaitTimeout
from harness.sandbox.pod import Pod
from harness.waiting import wait_until

READY_S = 10.0
"""How long a tapper may take to show its first canary, in seconds; this and the others scale with --patience."""
SEEN_S = 5.0
"""How long something may take from the wire to the output, and a changed list of targets to its effect."""
_CANARY_INTERVAL_S = 0.1
_LAST_CALL_S = 0.5
_SHORTEST_SILENCE_S = 0.3
_NOTHING = "nothing of it in that time"
CANARY_PORT = 18080

Canary = Callable[[], list[Sent]]


class Tap:
    """Made by `Trial.tap`. Ask for verdicts (`expect_…`) after `end`."""

    def __init__(self, under_test: UnderTest, directory: Path, patience: float) -> None:
        self.under_test = under_test
        self.directory = directory
        self.patience = patience
        self.ending: Ending | None = None
        self.checks = 0
        """How many expectations were looked at: a case that looks at none proves nothing."""
        self._seen: list[Seen] | None = None

    # -- while it runs ---------------------------------------------------------------------------------------------

    def look(self, *pods: Pod) -> None:
        """Prove by canaries that it looks into each of these pods. Raises `Late` if one is never seen."""
        for pod in pods:
            self.prove(lambda pod=pod: canary(pod), f"a request inside pod {pod.name}, which is a target")  # type: ignore[misc]

    def prove(self, send: Canary, what: str, within: float = READY_S) -> list[Sent]:
        """Send, again and again, until something of it is seen; returns all that was sent."""
        sent: list[Sent] = []
        first = True

        def seen() -> bool:
            nonlocal first
            if not first and self._mentions_any(sent):
                return True
            first = False
            sent.extend(send())
            return self._soon(lambda: self._mentions_any(sent), _CANARY_INTERVAL_S)

        self._wait(seen, what, within)
        return sent

    def wait_seen(self, sent: Sequence[Sent], within: float = SEEN_S) -> None:
        """Wait until each of these is in the output. Raises `Late`."""
        self._wait(lambda: self._mentions(sent), f"{len(sent)} requests, the first being {sent[0].target}", within)

    def settle(self, sent: Sequence[Sent], *looking: Pod) -> None:
        """Give it the time to report these, and no judgement: once later canaries are out, they will not come."""
        if self._soon(lambda: self._mentions(sent), _LAST_CALL_S * self.patience):
            if isinstance(self.under_test.output, Capture):
                self.look(*looking)  # packets come in order: where a later canary is, the answers are, too
            return
        for pod in looking:
            self.look(pod)
        self._soon(lambda: self._mentions(sent), _LAST_CALL_S * self.patience)

    def mentions(self, sent: Sequence[Sent]) -> bool:
        """Whether all of these are in its output by now."""
        return self._mentions(sent)

    def wait_for(
        self,
        probe: Callable[[], object],
        what: str,
        within: float = SEEN_S,
        *,
        instead: Callable[[], str] | None = None,
    ) -> None:
        """Wait for something else that it has to do. Raises `Late`, which says what was there `instead`."""
        self.checks += 1
        self._wait(probe, what, within, instead)

    def prove_all(self, send: Canary, what: str, within: float = SEEN_S) -> list[Sent]:
        """Send, again and again, until all that was sent at once is seen; returns that."""
        sent: list[Sent] = []

        def all_seen() -> bool:
            sent[:] = send()
            return self._soon(lambda: self._mentions(sent), _LAST_CALL_S * self.patience)

        self._wait(all_seen, what, within)
        return sent

    def latency(self, send: Canary) -> float:
        """How long something takes from the wire to the output now, in seconds."""
        started = time.monotonic()
        self.wait_seen(send())
        return time.monotonic() - started

    def prove_silence(self, send: Canary, what: str, latency: float, within: float = SEEN_S) -> None:
        """Send, again and again, until nothing of it is seen for much longer than its `latency` was before.

        Raises `Late` where it never falls silent.
        """
        pause = max(_SHORTEST_SILENCE_S, 3 * latency) * self.patience

        def silent() -> bool:
            sent = send()
            return not self._soon(lambda: self._mentions_any(sent), pause)

        self._wait(silent, what, within, lambda: "what was sent last, as before")

    def wait_acknowledged(self) -> bool:
        """Wait for its word that the newest list of targets is in effect; False, at once, where it never gives one."""
        if not self.records("ack"):
            return False
        self._wait(
            lambda: any(each.get("generation") == self.under_test.generation for each in self.records("ack")),
            f"the acknowledgement of generation {self.under_test.generation} of the targets",
            SEEN_S,
        )
        return True

    def wait_declared_ready(self) -> None:
        """Wait until it says, in its adapter's way, that it captures. Raises `NotClaimed` where it has no such way."""
        adapter = self.under_test.adapter
        if not adapter.ready_by_fd and adapter.ready_line is None:
            raise NotClaimed("its adapter has no way in which it says that it is ready (run.ready is none)")
        self._wait(self.under_test.declared_ready, "its own word that it is ready", READY_S)

    def retarget(self, *targets: Target) -> None:
        self.under_test.retarget(targets)

    # -- its end ---------------------------------------------------------------------------------------------------

    def end(self) -> Ending:
        """Stop it and read what it still has to say. Raises `TapperDied` if it had ended by itself."""
        if self.ending is None:
            died = None if self.under_test.running else self._obituary()
            self.ending = self.under_test.stop(self.patience)
            self._seen = self.under_test.output.seen()
            if died is not None:
                raise died
        return self.ending

    def stop(self) -> None:
        """Stop it if it was not ended, without a verdict on that."""
        if self.ending is None:
            self.ending = self.under_test.stop(self.patience)

    @property
    def seen(self) -> list[Seen]:
        """Every exchange it reported."""
        if self._seen is None:
            raise InternalError("a case asks what a tapper saw before it has ended it")
        return self._seen

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        """Its records of one type so far; a capture of packets has none."""
        self.under_test.output.refresh()
        return self.under_test.output.records(kind)

    def packets(self) -> list[Packet]:
        """What it captured, where it writes packets; none of a tapper that writes records."""
        output = self.under_test.output
        return output.packets() if isinstance(output, Capture) else []

    def notes(self) -> list[str]:
        """Bad manners, which only some cases are about."""
        notes = list(self.under_test.output.problems)
        if self.ending is not None:
            if self.ending.killed:
                notes.append("it did not end when asked to, and was killed")
            elif self.ending.code not in (0, -self.under_test.adapter.stop_signal):
                notes.append(f"it ended with exit code {self.ending.code}")
            notes += [f"it left a process behind: {command}" for command in self.ending.strays.values()]
        return notes

    # -- verdicts --------------------------------------------------------------------------------------------------

    def expect_once(self, sent: Sequence[Sent], *, wire_besides: bool = False) -> None:
        """Each is reported once for each of its legs; `wire_besides`: what is said to be no leg does not count."""
        self._check(sent)
        legs = (None, INBOUND, OUTBOUND)
        seen = [each for each in self.seen if each.direction in legs] if wire_besides else self.seen
        expect.once(sent, seen, self.under_test.adapter)

    def expect_seen(self, sent: Sequence[Sent]) -> None:
        """Each is reported, however often: for cases that are about something else."""
        self._check(sent)
        expect.seen(sent, self.seen, self.under_test.adapter)

    def expect_answered(self, sent: Sequence[Sent]) -> None:
        """Each is reported with its answer."""
        self._check(sent)
        expect.answered(sent, self.seen)

    def expect_bodies(self, sent: Sequence[Sent]) -> None:
        """Each is reported with its bodies, whole or said to be cut."""
        self._check(sent)
        expect.seen(sent, self.seen, self.under_test.adapter, paired=True)
        expect.bodies(sent, self.seen)

    def expect_nothing_invented(self, *ports: int, while_seeing: Sequence[Sent]) -> None:
        """No exchange is reported of connections with these ports; the others prove that it looked."""
        self.expect_seen(while_seeing)
        expect.nothing_invented(self.seen, ports)

    def expect_not_presented(self, hidden: Sequence[Sent], *, while_seeing: Sequence[Sent]) -> None:
        """Nothing of these is reported as an exchange, though it may be in what else it says."""
        self._check(hidden)
        self.expect_seen(while_seeing)
        expect.not_presented(hidden, self.seen)

    def expect_paired_right(self, sent: Sequence[Sent], *, while_seeing: Sequence[Sent]) -> None:
        """Whichever of these is reported is reported with its own answer or with none."""
        self._check(sent)
        self.expect_seen(while_seeing)
        expect.paired_right(sent, self.seen)

    def expect_never(self, forbidden: Sequence[Sent], *, while_seeing: Sequence[Sent]) -> None:
        """Nothing of these is anywhere in what it wrote, standard error included; the others prove that it looked."""
        self._check(forbidden)
        self._check(while_seeing)
        if not self._mentions(while_seeing):
            raise Violation("canaries that were sent at the same time", "none of them, so that silence proves nothing")
        expect.never(forbidden, [*self.under_test.output.everything(), self.under_test.read_log().encode()])

    def require(self, holds: object, expected: str, seen: str) -> None:
        """Anything else: raises a `Violation` unless it holds."""
        self.checks += 1
        if not holds:
            raise Violation(expected, seen)

    def expect_nothing_in_files(self, forbidden: Sequence[Sent]) -> None:
        """Nothing of these is in any file that it wrote below its folder."""
        self._check(forbidden)
        expect.never(forbidden, [path.read_bytes() for path in self.files()])

    def wrote(self, text: bytes) -> bool:
        """Whether it wrote this anywhere: output, standard error, files."""
        everything = [*self.under_test.output.everything(), self.under_test.read_log().encode()]
        return any(text in written for written in [*everything, *(path.read_bytes() for path in self.files())])

    def files(self) -> list[Path]:
        """The files that the tapper itself made: its output, if it goes to files, and its state."""
        made = [self.directory / "output", self.directory / "state"]
        inside = [path for folder in made if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
        return inside + [path for path in made if path.is_file()]

    # -- inner -----------------------------------------------------------------------------------------------------

    def _check(self, sent: Sequence[Sent]) -> None:
        if not sent:
            raise InternalError("a case expects something of no requests at all")
        self.checks += 1

    def _mentions(self, sent: Sequence[Sent]) -> bool:
        self.under_test.output.refresh()
        return {each.nonce for each in sent} <= self.under_test.output.mentioned()

    def _mentions_any(self, sent: Sequence[Sent]) -> bool:
        self.under_test.output.refresh()
        return not self.under_test.output.mentioned().isdisjoint(each.nonce for each in sent)

    def _soon(self, probe: Callable[[], object], seconds: float) -> bool:
        try:
            self._wait(probe, "", seconds / self.patience)
        except Late:
            return False
        return True

    def _wait(
        self, probe: Callable[[], object], what: str, within: float, instead: Callable[[], str] | None = None
    ) -> None:
        def check() -> bool:
            if probe():
                return True
            if not self.under_test.running:
                raise self._obituary()
            return False

        try:
            wait_until(check, what, within * self.patience)
        except WaitTimeout:
            seen = (instead or self._silence)()
            raise Late(f"{what} within {within * self.patience:g} s", seen) from None

    def _silence(self) -> str:
        """What there was instead, so that somebody who writes an adapter knows where to look."""
        said = [_NOTHING]
        if self.under_test.closed_output:
            said.append("its standard output is closed")
        said += [f"its output has {problem}" for problem in self.under_test.output.problems[:1]]
        if last := self.under_test.last_words():
            said.append(f"it last said: {last}")
        return "; ".join(said)

    def _obituary(self) -> TapperDied:
        code = self.under_test.returncode
        how = self.under_test.excess or (
            f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        )
        said = self.under_test.last_words()
        last = f": {said}" if said else ""
        left = list(self.under_test.strays().values())
        behind = f"; it goes on in the background ({in_words(left[0])}): run it in the foreground" if left else ""
        return TapperDied("a tapper that runs until it is stopped", f"its end ({how}){last}{behind}")

    def save(self) -> None:
        """Write what is known about the run into its evidence folder."""
        adapter = self.under_test.adapter
        self.directory.mkdir(parents=True, exist_ok=True)  # the tapper may have deleted it
        (self.directory / "run.json").write_text(
            json.dumps(
                {
                    "argv": list(adapter.argv),
                    "env": self.under_test.environ,
                    "exit_code": self.under_test.returncode,
                    "most_memory_bytes": self.under_test.most_memory,
                    "notes": self.notes(),
                },
                indent=2,
            )
            + "\n"
        )
        (self.directory / "stderr").write_text(self.under_test.read_log())


def canary(pod: Pod) -> list[Sent]:
    """A request inside a pod, from its sidecar to a port on which nothing else listens."""
    return truth.deliver(pod, port=CANARY_PORT)
