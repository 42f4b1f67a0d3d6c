"""`Watched`: a tapper that runs in a world, proven to look by canaries, made to end, and judged by what it reported."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from harness.adapters.contract import Adapter
from harness.conformance import expect, truth
from harness.conformance.truth import INBOUND, OUTBOUND, Sent
from harness.conformance.verdict import Late, TapperDied, Violation
from harness.errors import InternalError, WaitTimeout
from harness.waiting import wait_until
from harness.worlds.world import World, WorldPod

if TYPE_CHECKING:
    from harness.conformance.mesh.stage import Running

LOOK_S = 10.0
"""How long it may take until a target's canary is seen, and until silence about a former target; scales."""
SEEN_S = 5.0
"""From the wire to the output."""
_CANARY_INTERVAL_S = 0.3
_SHORTEST_SILENCE_S = 0.5
_LEGS = (None, INBOUND, OUTBOUND)
_MOST_LEGS = 2


class Watched:
    """Made by `Stage.tap`. Ask for verdicts (`expect_…`) after `end`."""

    def __init__(self, world: World, running: Running, adapter: Adapter, limits: float) -> None:
        self._world = world
        self._running = running
        self._adapter = adapter
        self._limits = limits
        self._latency = 0.0
        self._ended = False

    # -- while it runs ---------------------------------------------------------------------------------------------

    def look(self, *pods: WorldPod) -> None:
        """Prove by canaries that it looks into each of these pods. Raises `Late` if one is never seen."""
        for pod in pods:
            self._prove(pod)

    def look_away(self, *pods: WorldPod) -> None:
        """Send canaries until nothing of them is seen for much longer than it took before. Raises `Late`."""
        pause = max(_SHORTEST_SILENCE_S * self._limits, 3 * self._latency)
        for pod in pods:
            deadline = time.monotonic() + LOOK_S * self._limits
            while self._soon({self._canary(pod)}, pause):
                if time.monotonic() > deadline:
                    limit = f"within {LOOK_S * self._limits:g} s"
                    raise Late(f"silence about {truth.in_words(pod)} {limit}", "what was sent last, as before")

    def retarget(self, *targets: WorldPod) -> None:
        """These pods, and no others, from now on; it may take a moment to act."""
        self._running.retarget(targets)

    def wait_seen(self, sent: Sequence[Sent]) -> None:
        """Give it the time to report each of these for each of its legs, and no judgement: `expect_…` judges."""
        wanted = {each.nonce: len(each.legs) for each in sent}

        def all_seen() -> bool:
            if not wanted.keys() <= self._running.mentioned():
                return False
            found = Counter(nonce for each in self._running.sightings() for nonce in truth.nonces_in(each.target or ""))
            return all(found[nonce] >= count for nonce, count in wanted.items())

        try:
            self._wait(all_seen, SEEN_S)
        except WaitTimeout:
            return

    def end(self) -> None:
        """Stop it, and read what it still has to say. Raises `TapperDied` if it had ended by itself."""
        self._ended = True
        self._running.stop()

    # -- verdicts --------------------------------------------------------------------------------------------------

    def conclude(self, sent: Sequence[Sent]) -> None:
        """Wait for these, end it, and expect each of them once for each of its legs."""
        self.wait_seen(sent)
        self.end()
        self.expect_once(sent)

    def expect_once(self, sent: Sequence[Sent]) -> None:
        """Each is reported once for each of its legs; what is said to be of the wire, and no leg, does not count."""
        self._check(sent)
        seen = [each for each in self._running.sightings() if each.direction in _LEGS]
        expect.once(sent, seen, self._adapter)

    def expect_never(self, forbidden: Sequence[Sent], *, while_seeing: Sequence[Sent]) -> None:
        """Nothing of these is anywhere in what it wrote; the others prove that it looked."""
        self._check(forbidden)
        self._check(while_seeing)
        if not {each.nonce for each in while_seeing} <= self._running.mentioned():
            raise Violation("canaries that were sent at the same time", "not all of them: silence proves nothing")
        expect.never(forbidden, self._running.everything())

    def expect_no_leg(self, forbidden: Iterable[str], *, while_seeing: Sequence[Sent]) -> None:
        """Requests with these markers are reported for no pod's leg, though the wire may show them."""
        self._check(while_seeing)
        markers = set(forbidden)
        for each in self._running.sightings():
            if each.direction in (INBOUND, OUTBOUND) and markers & set(truth.nonces_in(each.target or "")):
                raise Violation("no leg of what no sidecar let through", str(each))
        expect.seen(while_seeing, self._running.sightings(), self._adapter)

    def expect_number(self, sent: Sequence[Sent], *, most_missing: int = 0) -> None:
        """Each is reported as often as it has legs, whichever pods they are of; so many may be reported less often."""
        self._check(sent)
        found = self._count()
        twice = [each for each in sent if found[each.nonce] > len(each.legs)]
        missing = [each for each in sent if found[each.nonce] < len(each.legs)]
        if twice or len(missing) > most_missing:
            some = f", at most {most_missing} of them less often" if most_missing else ""
            raise Violation(
                f"each of {len(sent)} requests as often as it has legs{some}",
                f"{len(missing)} too seldom, {len(twice)} too often",
            )

    def expect_somewhere(self, sent: Sequence[Sent]) -> None:
        """Each is reported for as many legs as are named or more, and never more than a client's and a server's."""
        self._check(sent)
        found = self._count()
        missing = [each for each in sent if found[each.nonce] < len(each.legs)]
        twice = [each for each in sent if found[each.nonce] > _MOST_LEGS]
        if missing or twice:
            raise Violation(
                f"each of {len(sent)} requests once or twice: where it leaves, and where it enters",
                f"{len(missing)} too seldom, {len(twice)} too often",
            )

    def _count(self) -> Counter[str]:
        seen = [each for each in self._running.sightings() if each.direction in _LEGS]
        return Counter(nonce for each in seen for nonce in truth.nonces_in(each.target or ""))

    def require(self, holds: object, expected: str, seen: str) -> None:
        """Anything else: raises a `Violation` unless it holds."""
        self._running.checked()
        if not holds:
            raise Violation(expected, seen)

    # -- inner -----------------------------------------------------------------------------------------------------

    def _prove(self, pod: WorldPod) -> None:
        limit = LOOK_S * self._limits
        deadline = time.monotonic() + limit
        sent: set[str] = set()
        while True:
            started = time.monotonic()
            sent.add(self._canary(pod))
            if self._soon(sent, _CANARY_INTERVAL_S):
                self._latency = max(self._latency, time.monotonic() - started)
                return
            if time.monotonic() > deadline and not self._soon(sent, SEEN_S * self._limits):
                said = self._running.last_words()
                seen = "nothing of it in that time" + (f"; it last said: {said}" if said else "")
                raise Late(f"a request inside {truth.in_words(pod)}, which is a target, within {limit:g} s", seen)

    def _canary(self, pod: WorldPod) -> str:
        nonce = truth.new_nonce()
        self._world.run(pod, ["python", "-m", "harness.worlds.programs.canary", nonce])
        return nonce

    def _soon(self, nonces: set[str], seconds: float) -> bool:
        """Whether one of them is mentioned by then."""
        try:
            self._wait(lambda: nonces & self._running.mentioned(), seconds / self._limits)
        except WaitTimeout:
            return False
        return True

    def _wait(self, probe: Callable[[], object], seconds: float) -> None:
        def check() -> bool:
            died = None if self._ended else self._running.obituary()
            if died is not None:
                raise TapperDied("a tapper that runs until it is stopped", f"its end ({died})")
            return bool(probe())

        wait_until(check, "the tapper", seconds * self._limits)

    def _check(self, sent: Sequence[Sent]) -> None:
        if not sent:
            raise InternalError("a case expects something of no requests at all")
        self._running.checked()
