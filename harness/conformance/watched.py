"""A tapper while it runs: canaries prove what it looks at, and everything that it has to do has a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.adapters.observed import in_words
from harness.adapters.packets import Capture
from harness.adapters.running import UnderTest
from harness.adapters.targets import Target
from harness.conformance import truth
from harness.conformance.truth import Sent
from harness.conformance.verdict import Late, NotClaimed, TapperDied
from harness.errors import WaitTimeout
from harness.sandbox.pod import Pod
from harness.waiting import wait_until

READY_S = 10.0
"""How long a tapper may take to show its first canary, in seconds; this and the others scale with --patience."""
SEEN_S = 5.0
"""How long something may take from the wire to the output, and a changed list of targets to its effect."""
_CANARY_INTERVAL_S = 0.1
_LAST_CALL_S = 0.5
_SHORTEST_SILENCE_S = 0.3
_INTO_THE_BACKGROUND_S = 0.3
_NOTHING = "nothing of it in that time"
CANARY_PORT = 18080

Canary = Callable[[], list[Sent]]


class Watched:
    """`patience` scales every time limit."""

    def __init__(self, under_test: UnderTest, patience: float) -> None:
        self.under_test = under_test
        self.patience = patience
        self.checks = 0
        """How many expectations were looked at: a case that looks at none proves nothing."""
        self.canaries: list[Sent] = []
        """Those that were sent to see whether it looks: what it says of them is how it is in calm."""

    def look(self, *pods: Pod) -> list[Sent]:
        """Prove by canaries that it looks into each of these pods; returns them. Raises `Late` if none is ever seen."""
        sent = []
        for pod in pods:
            sent += self.prove(
                lambda pod=pod: canary(pod),  # type: ignore[misc]
                f"a request inside {truth.in_words(pod)}, which is a target",
            )
        self.canaries += sent
        return sent

    def prove(self, send: Canary, what: str, within: float = READY_S) -> list[Sent]:
        """Send, again and again, until something of it is seen; returns all that was sent.

        The tapper's own word that it is ready is no proof, only a good moment to send once more.
        """
        sent: list[Sent] = []
        said_ready = self.under_test.declared_ready()

        def seen_or_told() -> bool:
            return self._mentions_any(sent) or (not said_ready and self.under_test.declared_ready())

        def seen() -> bool:
            nonlocal said_ready
            if sent and self._mentions_any(sent):
                return True
            sent.extend(send())
            self._soon(seen_or_told, _CANARY_INTERVAL_S)
            said_ready = said_ready or self.under_test.declared_ready()
            return self._mentions_any(sent)

        self._wait(seen, what, within)
        return sent

    def wait_seen(self, sent: Sequence[Sent], within: float = SEEN_S) -> None:
        """Wait until each of these is in the output. Raises `Late`."""
        self._wait(lambda: self.mentions(sent), f"{len(sent)} requests, the first being {sent[0].target}", within)

    def settle(self, sent: Sequence[Sent], *looking: Pod) -> None:
        """Give it the time to report these, and no judgement: once later canaries are out, they will not come."""
        if self._soon(lambda: self.mentions(sent), _LAST_CALL_S * self.patience):
            if isinstance(self.under_test.output, Capture):
                self.look(*looking)  # packets come in order: where a later canary is, the answers are, too
            return
        for pod in looking:
            self.look(pod)
        self._soon(lambda: self.mentions(sent), _LAST_CALL_S * self.patience)

    def mentions(self, sent: Sequence[Sent]) -> bool:
        """Whether all of these are in its output by now."""
        self.under_test.output.refresh()
        return {each.nonce for each in sent} <= self.under_test.output.mentioned()

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
        """Send, again and again, until all that was sent at one time is seen; returns that.

        It may take long from the wire to the output: what was sent before still counts while more is sent.
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

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        """Its records of one type so far; a capture of packets has none."""
        self.under_test.output.refresh()
        return self.under_test.output.records(kind)

    def obituary(self) -> TapperDied:
        """How it ended by itself, in words."""
        code = self.under_test.returncode
        how = self.under_test.excess or (
            f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        )
        said = self.under_test.stderr.last_line()
        last = f": {said}" if said else ""
        left = self._left_behind()
        behind = f"; it goes on in the background ({in_words(left[0])}): run it in the foreground" if left else ""
        return TapperDied("a tapper that runs until it is stopped", f"its end ({how}){last}{behind}")

    def _left_behind(self) -> list[str]:
        """Its children that go on, after the moment that it takes to go into the background."""
        left: dict[int, str] = {}

        def any_left() -> bool:
            left.update(self.under_test.strays())
            return bool(left)

        try:
            wait_until(any_left, "what it left behind", _INTO_THE_BACKGROUND_S)
        except WaitTimeout:
            return []
        return list(left.values())

    # -- inner -----------------------------------------------------------------------------------------------------

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
                raise self.obituary()
            return False

        try:
            wait_until(check, what, within * self.patience, pause=self.under_test.wait_for_news)
        except WaitTimeout:
            seen = (instead or self._silence)()
            raise Late(f"{what} within {within * self.patience:g} s", seen) from None

    def _silence(self) -> str:
        """What there was instead, so that somebody who writes an adapter knows where to look."""
        said = [_NOTHING]
        if self.under_test.closed_output:
            said.append("its standard output is closed")
        said += [f"its output has {problem}" for problem in self.under_test.output.problems[:1]]
        if last := self.under_test.stderr.last_line():
            said.append(f"it last said: {last}")
        return "; ".join(said)


def canary(pod: Pod) -> list[Sent]:
    """A request inside a pod, from its sidecar to a port on which nothing else listens."""
    return truth.deliver(pod, port=CANARY_PORT)
