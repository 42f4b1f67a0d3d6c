"""`TrialTap`: a tapper on trial in the sandbox, with all verdicts that a case may ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.adapters.process import TapperProcess
from harness.adapters.running import Ending
from harness.adapters.targets import Target, target
from harness.conformance import expect, truth
from harness.conformance.audit.written import Written
from harness.conformance.truth import Sent
from harness.conformance.verdict import NotClaimed
from harness.conformance.watched import Watched
from harness.sandbox.pod import Pod

CANARY_PORT = 18080


class TrialTap(Watched[Pod]):
    """Made by `Trial.tap`. Ask for verdicts (`expect_…`) after `end`."""

    def __init__(self, under_test: TapperProcess, patience: float, written: Written | None = None) -> None:
        super().__init__(under_test, patience, canary, lambda pod: named(pod, under_test))
        self.under_test = under_test
        self._written = written
        self._killed_by_case = False

    def end(self) -> Ending:
        if self.ending is None and self._written is not None:
            self._written.look(self.under_test.family)
        return super().end()

    def kill(self) -> Ending:
        """End it by SIGKILL. That it ends so is the case's doing, and no fault."""
        self._killed_by_case = True
        self.ending = self.under_test.stop(signum=signal.SIGKILL)
        self._seen = self.running.reported()
        return self.ending

    def notes(self) -> list[str]:
        return self.running.problems() if self._killed_by_case else super().notes()

    # -- verdicts --------------------------------------------------------------------------------------------------

    def expect_once(
        self, sent: Sequence[Sent], *, calm: Sequence[Sent] | None = None, wire_between: Sequence[Pod] = ()
    ) -> None:
        """Each is reported once for each of its legs, or as often as undisturbed canaries: `calm`, or all of them.

        `wire_between` are pods that talk to each other over the wire: reports of that traffic do not count.
        """
        self._check(sent)
        seen = [each for each in self.seen if not expect.is_of_the_wire(each, wire_between)]
        if wire_between and any(expect.may_be_of_the_wire(each) for each in seen):
            expect.seen(sent, seen, self.running.adapter)
        else:
            expect.once(sent, seen, self.running.adapter, copies=self.copies(calm) or 1)

    def expect_exactly_once(self, sent: Sequence[Sent]) -> None:
        """Each is reported once for each of its legs, however often the tapper reports undisturbed canaries."""
        super().expect_once(sent)

    def expect_seen(self, sent: Sequence[Sent]) -> None:
        """Each is reported, and no more often than an undisturbed canary: for cases that are not about duplicates."""
        self._check(sent)
        expect.seen(sent, self.seen, self.running.adapter, copies=self.copies())

    def copies(self, calm: Sequence[Sent] | None = None) -> int | None:
        """How often it reports an undisturbed exchange, by these canaries or all; None if it reports none of them."""
        return expect.usual_copies(self.canaries if calm is None else calm, self.seen)

    def expect_answered(self, sent: Sequence[Sent]) -> None:
        """Each is reported with its answer, if the tapper claims to report answers."""
        self._check(sent)
        if self.running.adapter.claims_answers:
            expect.answered(sent, self.seen)

    def expect_bodies(self, sent: Sequence[Sent]) -> None:
        """Each is reported with its bodies, whole or marked as cut: for cases that are about bodies.

        A tapper that does not claim to report answers may leave messages out; a body that it reports is compared.
        Raises `NotClaimed` for a tapper that claims to report answers, and has no body in any of its records.
        """
        self.expect_paired(sent)
        if not self.running.adapter.claims_answers:
            return
        messages = [message for each in self.seen for message in (each.request, each.response)]
        if not any(message is not None and message.gives_body for message in messages):
            raise NotClaimed("none of its records has a body (body_b64)")
        expect.bodies(sent, self.seen)

    def expect_paired(self, sent: Sequence[Sent]) -> None:
        """Each is reported with its own answer; the bodies that the tapper reports are right."""
        self._check(sent)
        expect.seen(sent, self.seen, self.running.adapter, paired=True, copies=self.copies())
        expect.bodies(sent, self.seen, where_told=True)

    def expect_nothing_invented(self, *ports: int, while_seeing: Sequence[Sent]) -> None:
        """No exchange is reported of connections with these ports; the others prove that it captured."""
        self.expect_seen(while_seeing)
        expect.nothing_invented(self.seen, ports)

    def expect_not_presented(self, hidden: Sequence[Sent], *, while_seeing: Sequence[Sent]) -> None:
        """Nothing of these is reported as an exchange; other records may contain it."""
        self._check(hidden)
        self.expect_seen(while_seeing)
        expect.not_presented(hidden, self.seen)

    def expect_paired_right(self, sent: Sequence[Sent], *, while_seeing: Sequence[Sent]) -> None:
        """Each of these that is reported is reported with its own answer or with none."""
        self._check(sent)
        self.expect_seen(while_seeing)
        expect.paired_right(sent, self.seen)

    def written(self) -> Iterator[tuple[str, bytes]]:
        """Its output, its standard error, its state, and, where the case has them watched, all other files."""
        yield from (("in its output", text) for text in self.under_test.output.everything())
        yield "in its standard error", self.under_test.read_log().encode()
        for path in self.files():
            yield f"in {path.relative_to(self.directory)}", path.read_bytes()
        if self._written is not None:
            yield from ((f"in {name}", content) for name, content in self._written.contents())
            names = "\n".join(self._written.names()).encode(errors="surrogateescape")
            yield "in the names of its files and links", names

    @property
    def directory(self) -> Path:
        """The folder for its output and for the evidence of the run."""
        return self.under_test.directory

    def files(self) -> list[Path]:
        """The files that the tapper itself made: its output, if it goes to files, and its state."""
        made = [self.directory / "output", self.directory / "state"]
        inside = [path for folder in made if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
        return inside + [path for path in made if path.is_file()]


def canary(pod: Pod) -> list[Sent]:
    """Send a request inside a pod, from its sidecar to a port on which nothing else listens."""
    return truth.deliver(pod, port=CANARY_PORT)


def named(pod: Pod, under_test: TapperProcess) -> Target:
    """A pod as the tapper is told of it, with its pid if the adapter leaves discovery to the kit."""
    return target(pod, pid=under_test.adapter.delegates_discovery)
