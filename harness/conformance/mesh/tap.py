"""`MeshTap`: a tapper in a world of real sidecars, with the verdicts that the cases of the group MESH ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from harness.adapters.observed import ReportedExchange
from harness.adapters.running import Running
from harness.adapters.targets import Target
from harness.conformance import expect, truth
from harness.conformance.truth import INBOUND, OUTBOUND, Sent
from harness.conformance.verdict import Late, Violation
from harness.conformance.watched import SEEN_S, Watched
from harness.worlds.model import WorldPod
from harness.worlds.world import World

_LEGS = (None, INBOUND, OUTBOUND)
_MOST_LEGS = 2


class MeshTap(Watched[WorldPod]):
    """Made by `Stage.tap`. Ask for verdicts (`expect_…`) after `end`."""

    def __init__(self, world: World, running: Running, target: Callable[[WorldPod], Target], patience: float) -> None:
        def canary(pod: WorldPod) -> list[Sent]:
            nonce = truth.new_nonce()
            world.run(pod, ["python", "-m", "harness.worlds.programs.canary", nonce])
            return [Sent(nonce, "GET", truth.target_of(nonce), 200, ())]

        super().__init__(running, patience, canary, target)

    def settle(self, sent: Sequence[Sent], *looking: WorldPod) -> None:
        """Give it the time to report each of these for each of its legs, without a verdict."""
        wanted = {each.nonce: len(each.legs) for each in sent}

        def all_seen() -> bool:
            if not self.mentions(sent):
                return False
            found = _count(self.running.reported())
            return all(found[nonce] >= count for nonce, count in wanted.items())

        try:
            self._wait(all_seen, f"{len(sent)} requests", SEEN_S)
        except Late:
            self.look(*looking)

    def conclude(self, sent: Sequence[Sent]) -> None:
        """Wait for these, end it, and expect each of them once for each of its legs."""
        self.settle(sent)
        self.end()
        self.expect_once(sent)

    def expect_once(self, sent: Sequence[Sent]) -> None:
        """Each is reported once for each of its legs; reports of the wire, which is no leg, do not count."""
        self._check(sent)
        expect.seen(sent, self._of_legs(), self.running.adapter, copies=1)

    def expect_no_leg(self, forbidden: Iterable[str], *, while_seeing: Sequence[Sent]) -> None:
        """Requests with these markers are reported for no leg of a pod, though the wire may show them."""
        self._check(while_seeing)
        markers = set(forbidden)
        for each in self.seen:
            if each.direction in (INBOUND, OUTBOUND) and markers & set(truth.nonces_in(each.target or "")):
                raise Violation("no leg of a request that no sidecar let through", str(each))
        expect.seen(while_seeing, self.seen, self.running.adapter)

    def expect_number(self, sent: Sequence[Sent], *, most_missing: int = 0) -> None:
        """Each is reported as often as it has legs, for whichever pods; `most_missing` may be reported less often."""
        self._check(sent)
        seldom, often = self._wrong_numbers(sent, lambda legs: legs)
        if often or seldom > most_missing:
            some = f", at most {most_missing} of them less often" if most_missing else ""
            raise Violation(
                f"each of {len(sent)} requests as often as it has legs{some}",
                f"{seldom} too seldom, {often} too often",
            )

    def expect_somewhere(self, sent: Sequence[Sent]) -> None:
        """Each is reported at least once for each leg that is named, and at most for a client's and a server's leg."""
        self._check(sent)
        seldom, often = self._wrong_numbers(sent, lambda _: _MOST_LEGS)
        if seldom or often:
            raise Violation(
                f"each of {len(sent)} requests once or twice: where it leaves, and where it enters",
                f"{seldom} too seldom, {often} too often",
            )

    def _wrong_numbers(self, sent: Sequence[Sent], most: Callable[[int], int]) -> tuple[int, int]:
        """How many requests are reported less often than they have legs, and how many more often than `most`."""
        found = _count(self._of_legs())
        legs = [(found[each.nonce], len(each.legs)) for each in sent]
        return sum(count < wanted for count, wanted in legs), sum(count > most(wanted) for count, wanted in legs)

    def _of_legs(self) -> list[ReportedExchange]:
        return [each for each in self.seen if each.direction in _LEGS]


def _count(reported: Iterable[ReportedExchange]) -> Counter[str]:
    """How often each marker is in a request target."""
    return Counter(nonce for each in reported for nonce in truth.nonces_in(each.target or ""))
