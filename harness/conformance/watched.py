"""`Watched`: a tapper while it runs, and the verdicts on its output after its end.

Canaries prove that it captures in a pod, and everything that it has to do has a time limit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from harness.adapters.observed import ReportedExchange
from harness.adapters.packets import Capture, Packet
from harness.adapters.running import Ending, Running
from harness.adapters.targets import Target
from harness.conformance import expect, truth
from harness.conformance.audit import unpacked
from harness.conformance.truth import NamedPod, Sent
from harness.conformance.verdict import Late, NotClaimed, TapperDied, Violation
from harness.errors import InternalError, WaitTimeout
from harness.waiting import wait_until

READY_S = 10.0
"""How long a tapper may take to report its first canary, in seconds; this and the others scale with --patience."""
SEEN_S = 5.0
"""How long an exchange may take from the wire to the output, and a changed list of targets to its effect."""
CANARY_INTERVAL_S = 0.1
_LAST_CALL_S = 0.5
_EVERY_LEG_S = 1.5
_SHORTEST_SILENCE_S = 0.3
_NOTHING = "nothing of it in that time"

Canary = Callable[[], list[Sent]]
P = TypeVar("P", bound=NamedPod)


class Watched(Generic[P]):
    """`canary` sends a request inside a pod, `target` names a pod to the tapper; `patience` scales every time limit."""

    def __init__(
        self, running: Running, patience: float, canary: Callable[[P], list[Sent]], target: Callable[[P], Target]
    ) -> None:
        self.running = running
        self.patience = patience
        self.checks = 0
        """How many expectations were compared with the output: a case that compares none proves nothing."""
        self.canaries: list[Sent] = []
        """The canaries of `look`: how often the tapper reports them is how often it reports an undisturbed exchange."""
        self.ending: Ending | None = None
        self._canary = canary
        self._target = target
        self._seen: list[ReportedExchange] | None = None
        self._latency = 0.0

    # -- while it runs ---------------------------------------------------------------------------------------------

    def look(self, *pods: P) -> list[Sent]:
        """Prove by canaries that it captures in each of these pods; returns them. Raises `Late` if none is reported."""
        sent = []
        for pod in pods:
            what = f"a request inside {truth.in_words(pod)}, which is a target"
            sent += self.prove(lambda pod=pod: self._canary(pod), what)  # type: ignore[misc]
        self.canaries += sent
        return sent

    def look_away(self, *pods: P) -> None:
        """Prove by canaries that it does not capture in these pods any more. Raises `Late`."""
        for pod in pods:
            silence = f"silence about {truth.in_words(pod)}"
            self.prove_silence(lambda pod=pod: self._canary(pod), silence, self._latency, READY_S)  # type: ignore[misc]

    def prove(self, send: Canary, what: str, within: float = READY_S) -> list[Sent]:
        """Send repeatedly until one of the requests is in the output; returns all that were sent.

        The tapper's own word that it is ready is no proof. It is only a good moment to send once more.
        """
        sent: list[Sent] = []
        said_ready = self.running.declared_ready()

        def seen_or_ready() -> bool:
            return self._mentions_any(sent) or (not said_ready and self.running.declared_ready())

        def seen() -> bool:
            nonlocal said_ready
            if sent and self._mentions_any(sent):
                return True
            started = time.monotonic()
            sent.extend(send())
            self._soon(seen_or_ready, CANARY_INTERVAL_S)
            said_ready = said_ready or self.running.declared_ready()
            if not self._mentions_any(sent):
                return False
            self._latency = max(self._latency, time.monotonic() - started)
            return True

        self._wait(seen, what, within)
        return sent

    def wait_seen(self, sent: Sequence[Sent], within: float = SEEN_S) -> None:
        """Wait until each of these is in the output. Raises `Late`."""
        self._wait(lambda: self.mentions(sent), f"{len(sent)} requests, the first being {sent[0].target}", within)

    def settle(self, sent: Sequence[Sent], *looking: P) -> None:
        """Give it the time to report these, without a verdict: once later canaries are reported, it is over."""
        if self._soon(lambda: self.mentions(sent), _LAST_CALL_S * self.patience):
            if any(isinstance(output, Capture) for _, output in self.running.outputs()):
                self.look(*looking)  # packets come in order: a later canary comes after the answers
            elif any(len(request.legs) > 1 for request in sent):
                self._soon(lambda: self._has_every_leg(sent), _EVERY_LEG_S * self.patience)
            return
        self.look(*looking)
        self._soon(lambda: self.mentions(sent), _LAST_CALL_S * self.patience)

    def mentions(self, sent: Sequence[Sent]) -> bool:
        """Whether the markers of all of these are in its output by now."""
        return {each.nonce for each in sent} <= self.running.mentioned()

    def wait_for(
        self,
        probe: Callable[[], object],
        what: str,
        within: float = SEEN_S,
        *,
        instead: Callable[[], str] | None = None,
    ) -> None:
        """Wait for anything else that it has to do. Raises `Late`, which says what was there `instead`."""
        self.checks += 1
        self._wait(probe, what, within, instead)

    def prove_all(self, send: Canary, what: str, within: float = SEEN_S) -> list[Sent]:
        """Send repeatedly until all requests of one call of `send` are in the output; returns those.

        The way from the wire to the output may take long: earlier requests still count while more are sent.
        """
        rounds: list[list[Sent]] = []
        whole: list[Sent] = []

        def one_is_whole() -> bool:
            whole[:] = next((sent for sent in rounds if self.mentions(sent)), [])
            return bool(whole)

        def all_seen() -> bool:
            rounds.append(send())
            return self._soon(one_is_whole, _LAST_CALL_S * self.patience)

        self._wait(all_seen, what, within)
        return whole

    def latency(self, send: Canary) -> float:
        """How long a request takes from the wire to the output now, in seconds."""
        started = time.monotonic()
        self.wait_seen(send())
        return time.monotonic() - started

    def prove_silence(self, send: Canary, what: str, latency: float, within: float = SEEN_S) -> None:
        """Send repeatedly until nothing of a request is reported for much longer than the `latency` from before.

        Raises `Late` if it goes on reporting.
        """
        pause = max(_SHORTEST_SILENCE_S * self.patience, 3 * latency * self.patience)

        def silent() -> bool:
            sent = send()
            return not self._soon(lambda: self._mentions_any(sent), pause)

        self._wait(silent, what, within, lambda: "what was sent last, as before")

    def wait_acknowledged(self) -> bool:
        """Wait for its word that the newest list of targets is in effect; False at once if it never gives one."""
        if not self.running.records("ack"):
            return False
        generation = self.running.generation
        self._wait(
            lambda: any(each.get("generation") == generation for each in self.running.records("ack")),
            f"the acknowledgement of generation {generation} of the targets",
            SEEN_S,
        )
        return True

    def wait_declared_ready(self) -> None:
        """Wait until it says, in its adapter's way, that it captures. Raises `NotClaimed` if it has no such way."""
        adapter = self.running.adapter
        if not adapter.ready_by_fd and adapter.ready_line is None:
            raise NotClaimed("its adapter has no way in which it says that it is ready (run.ready is none)")
        self._wait(self.running.declared_ready, "its own word that it is ready", READY_S)

    def retarget(self, *targets: P | Target) -> None:
        """Give it these targets, and no others."""
        self.running.retarget([each if isinstance(each, Target) else self._target(each) for each in targets])

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        """Its records of one type so far; a capture of packets has none."""
        return self.running.records(kind)

    # -- its end ---------------------------------------------------------------------------------------------------

    def end(self) -> Ending:
        """Stop it, and read the rest of its output. Raises `TapperDied` if it had ended by itself."""
        if self.ending is None:
            died = self.running.ended()
            self.stop()
            self._seen = self.running.reported()
            if died is not None:
                raise _died(died)
        assert self.ending is not None
        return self.ending

    def stop(self) -> None:
        """Stop it if `end` has not, without a verdict."""
        if self.ending is None:
            self.ending = self.running.stop(self.patience)

    @property
    def seen(self) -> list[ReportedExchange]:
        """Every exchange that it reported."""
        if self._seen is None:
            raise InternalError("a case asks what a tapper saw before it has ended it")
        return self._seen

    def reported(self) -> list[ReportedExchange]:
        """Every exchange that it reported, also if the case has not asked for its verdict."""
        return self.running.reported() if self._seen is None else self._seen

    def packets(self) -> list[Packet]:
        """The packets that it captured; none of a tapper that writes records."""
        captures = [output for _, output in self.running.outputs() if isinstance(output, Capture)]
        return [packet for capture in captures for packet in capture.packets()]

    def shown(self) -> int:
        """How many different requests it reported, or in how many flows it captured payload."""
        if self.running.adapter.format != "ndjson":
            segments = (packet.tcp() for packet in self.packets())
            return len({segment.flow for segment in segments if segment is not None and segment.payload})
        return len({(each.target, each.src) for each in self.reported()})

    def notes(self) -> list[str]:
        """Faults that only some cases are about."""
        notes = self.running.problems()
        if self.ending is not None:
            if self.ending.killed:
                notes.append("it did not end when asked to, and was killed")
            elif self.ending.code not in (0, -self.running.adapter.stop_signal):
                notes.append(f"it ended with exit code {self.ending.code}")
            notes += [f"it left a process behind: {command}" for command in self.ending.strays.values()]
        return notes

    def save(self) -> None:
        """Write the evidence of the run into its folder."""
        self.running.save()

    # -- verdicts --------------------------------------------------------------------------------------------------

    def expect_once(self, sent: Sequence[Sent]) -> None:
        """Each is reported once for each of its legs."""
        self._check(sent)
        expect.once(sent, self.seen, self.running.adapter)

    def expect_never(self, forbidden: Sequence[Sent], *, while_seeing: Sequence[Sent]) -> None:
        """Nothing of these is anywhere in its output, plain or packed; the others prove that it captured."""
        self._check(forbidden)
        self._check(while_seeing)
        if not self.mentions(while_seeing):
            raise Violation("canaries that were sent at the same time", "none of them, so that silence proves nothing")
        expect.absent(forbidden, self.wrote(expect.trace(each) for each in forbidden))

    def require(self, holds: object, expected: str, seen: str) -> None:
        """Anything else: raises a `Violation` unless it holds."""
        self.checks += 1
        if not holds:
            raise Violation(expected, seen)

    def wrote(self, texts: Iterable[bytes]) -> dict[bytes, str]:
        """Which of these texts it wrote anywhere, and where: `in its output`, `in /tmp/log, in gzip`.

        Everything that can be decoded is decoded first.
        """
        left, found = set(texts), dict[bytes, str]()
        for place, content in self.written():
            for text, how in unpacked.find(left, content).items():
                found[text] = place if how == "as it is" else f"{place}, {how}"
                left.remove(text)
        return found

    def written(self) -> Iterator[tuple[str, bytes]]:
        """Everything that it wrote, with the place in words."""
        yield from (("in its output", text) for text in self.running.everything())

    # -- inner -----------------------------------------------------------------------------------------------------

    def _check(self, sent: Sequence[Sent]) -> None:
        if not sent:
            raise InternalError("a case expects something of no requests at all")
        self.checks += 1

    def _has_every_leg(self, sent: Sequence[Sent]) -> bool:
        """Whether each of these is in its records once for each of its legs: one leg may be read later than the
        other."""
        reports = Counter(nonce for report in self.reported() for nonce in truth.nonces_in(report.target or ""))
        return all(reports[request.nonce] >= len(request.legs) for request in sent)

    def _mentions_any(self, sent: Sequence[Sent]) -> bool:
        return not self.running.mentioned().isdisjoint(each.nonce for each in sent)

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
            died = None if self.ending is not None else self.running.ended()
            if died is not None:
                raise _died(died)
            return False

        try:
            wait_until(check, what, within * self.patience, pause=self.running.wait_for_news)
        except WaitTimeout:
            seen = instead() if instead is not None else "; ".join([_NOTHING, *self.running.why_silent()])
            raise Late(f"{what} within {within * self.patience:g} s", seen) from None


def _died(how: str) -> TapperDied:
    return TapperDied("a tapper that runs until it is stopped", how)
