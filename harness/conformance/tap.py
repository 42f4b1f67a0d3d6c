"""A tapper on trial: proven to look while it runs (`Watched`), made to end, and then asked what it saw."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.adapters.observed import ReportedExchange
from harness.adapters.packets import Capture, Packet
from harness.adapters.running import Ending, UnderTest
from harness.conformance import expect
from harness.conformance.audit import unpacked
from harness.conformance.audit.written import Written
from harness.conformance.truth import Sent
from harness.conformance.verdict import Violation
from harness.conformance.watched import Watched
from harness.errors import InternalError
from harness.sandbox.pod import Pod


class Tap(Watched):
    """Made by `Trial.tap`. Ask for verdicts (`expect_…`) after `end`."""

    def __init__(self, under_test: UnderTest, directory: Path, patience: float, written: Written | None = None) -> None:
        super().__init__(under_test, patience)
        self.directory = directory
        self._written = written
        self.ending: Ending | None = None
        self._seen: list[ReportedExchange] | None = None

    # -- its end ---------------------------------------------------------------------------------------------------

    def end(self) -> Ending:
        """Stop it and read what it still has to say. Raises `TapperDied` if it had ended by itself."""
        if self.ending is None:
            died = None if self.under_test.running else self.obituary()
            if self._written is not None:
                self._written.look(self.under_test.family)
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
    def seen(self) -> list[ReportedExchange]:
        """Every exchange it reported."""
        if self._seen is None:
            raise InternalError("a case asks what a tapper saw before it has ended it")
        return self._seen

    def reported(self) -> list[ReportedExchange]:
        """Every exchange it reported, also where the case has not asked for its verdict."""
        return self.under_test.output.seen() if self._seen is None else self._seen

    def shown(self) -> int:
        """How many different requests it reported, or in how many flows it captured payload."""
        if isinstance(self.under_test.output, Capture):
            segments = (packet.tcp() for packet in self.packets())
            return len({segment.flow for segment in segments if segment is not None and segment.payload})
        return len({(each.target, each.src) for each in self.reported()})

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

    def expect_once(
        self, sent: Sequence[Sent], *, calm: Sequence[Sent] | None = None, wire_between: Sequence[Pod] = ()
    ) -> None:
        """Each is reported once for each of its legs, or as often as canaries in calm: these, or all that there were.

        `wire_between` are the pods that talk over the wire: what is told of that besides does not count.
        """
        self._check(sent)
        seen = [each for each in self.seen if not expect.is_of_the_wire(each, wire_between)]
        if wire_between and any(expect.may_be_of_the_wire(each) for each in seen):
            expect.seen(sent, seen, self.under_test.adapter)
        else:
            expect.once(sent, seen, self.under_test.adapter, copies=self.copies(calm) or 1)

    def expect_exactly_once(self, sent: Sequence[Sent]) -> None:
        """Each is reported once for each of its legs, whatever the tapper does in calm."""
        self._check(sent)
        expect.once(sent, self.seen, self.under_test.adapter)

    def expect_seen(self, sent: Sequence[Sent]) -> None:
        """Each is reported, and no more often than in calm: for cases that are about something else."""
        self._check(sent)
        expect.seen(sent, self.seen, self.under_test.adapter, copies=self.copies())

    def copies(self, calm: Sequence[Sent] | None = None) -> int | None:
        """How often it reports one exchange in calm, by these canaries, or by all; None if it reports none of them."""
        return expect.usual_copies(self.canaries if calm is None else calm, self.seen)

    def expect_answered(self, sent: Sequence[Sent]) -> None:
        """Each is reported with its answer. A tapper that does not claim to report answers is not asked for them."""
        self._check(sent)
        if self.under_test.adapter.claims_answers:
            expect.answered(sent, self.seen)

    def expect_bodies(self, sent: Sequence[Sent]) -> None:
        """Each is reported with its bodies, whole or said to be cut.

        A tapper that does not claim to report answers may leave messages out; a body that it reports is looked at.
        """
        self._check(sent)
        adapter = self.under_test.adapter
        expect.seen(sent, self.seen, adapter, paired=True, copies=self.copies())
        expect.bodies(sent, self.seen, where_told=not adapter.claims_answers)

    def expect_paired(self, sent: Sequence[Sent]) -> None:
        """Each is reported with its own answer; bodies are as they were where the tapper gives them."""
        self._check(sent)
        expect.seen(sent, self.seen, self.under_test.adapter, paired=True, copies=self.copies())
        expect.bodies(sent, self.seen, where_told=True)

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
        """Nothing of these is anywhere in what it wrote, as it is or packed; the others prove that it looked."""
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
        """Which of these it wrote anywhere, and where: `in its output`, `in /tmp/log, in gzip`.

        Whatever can be decoded is decoded first. Files are its output and its state, and all others where the case has
        them watched (`Trial.tap`).
        """
        left, found = set(texts), dict[bytes, str]()
        for place, content in self.sayings():
            for text, how in unpacked.find(left, content).items():
                found[text] = place if how == "as it is" else f"{place}, {how}"
                left.remove(text)
        return found

    def sayings(self) -> Iterator[tuple[str, bytes]]:
        """All that it wrote, with the place in words: `in its output`, `in its standard error`, `in /tmp/log`."""
        yield from (("in its output", text) for text in self.under_test.output.everything())
        yield "in its standard error", self.under_test.stderr.text().encode()
        for path in self.files():
            yield f"in {path.relative_to(self.directory)}", path.read_bytes()
        if self._written is not None:
            yield from ((f"in {name}", content) for name, content in self._written.contents())

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
        (self.directory / "stderr").write_text(self.under_test.stderr.text())
