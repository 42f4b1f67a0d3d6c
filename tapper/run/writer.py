"""Where exchanges go: the last steps of one packet's way, which a live capture and a file have in common.

    source -> stream -> protocol -> exchange -> shape (filters, redaction) -> format -> output

Whoever captures opens an account for each source, gives its packets to the account's reader, and delivers what that
makes; here it is counted, written, and kept within bounds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from tapper import __version__
from tapper.output.counts import table
from tapper.output.pcapng import Recorder
from tapper.output.records import Format, Place, Row, Stat, Totals
from tapper.output.shape import Shape
from tapper.output.sink import Console, Sink
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.records import FactRecord, Record
from tapper.protocols.session import Session
from tapper.run.accounts import Account, Books
from tapper.run.parts import PLAIN, Parts
from tapper.streams.bounds import HELD_BY_SOURCE
from tapper.streams.connection import Connection, Scope
from tapper.streams.connections import Connections
from tapper.wire.verdict import Peek

_LINES_AT_ONCE = 64
_HELD_BYTES: Final = 256 << 20  # by all sources together


class Outlet:
    """One run's output. Writing raises Closed when nobody reads it any longer, and TapperError where it is full."""

    def __init__(
        self,
        output: Sink,
        form: Format,
        console: Console,
        shape: Shape,
        recorder: Recorder | None = None,
        body_limit: int = BODY_LIMIT,
        parts: Parts = PLAIN,
    ) -> None:
        self._output = output
        self._form = form
        self._console = console
        self._shape = shape
        self._recorder = recorder
        self._body_limit = body_limit
        self._readers = parts.readers
        self._books = Books()

    def fileno(self) -> int:
        """Of the output, to see whether it is still read."""
        return self._output.fileno()

    def gather(self) -> None:
        """From now on write only at each `flush`: for whoever knows when there is nothing else to do."""
        self._output.gather()

    def flush(self) -> None:
        """Have everything written that there is to write."""
        self.record()
        self._output.flush()

    # The run.

    def begin(self) -> None:
        self._output.ending = self._form.ending().encode()
        self._output.write(self._form.hello(__version__, os.getpid()))

    def acknowledge(self, generation: int) -> None:
        """The sources are what the list of targets of this generation asks for."""
        self._output.write(self._form.ack(generation))

    def report_so_far(self, rows: list[Row]) -> None:
        """The sources that were closed, and the open ones as given."""
        totals = self._books.totals.copy()
        for row in rows:
            totals.merge(row.counts)
        records = [self._form.stat(row.place, row.counts, so_far=True) for row in rows]
        self._output.write("".join([*records, self._form.stat(None, totals, so_far=True)]))
        self._console.warn("so far:")
        self._summarise(totals, self.rows(rows))

    def end(self) -> None:
        """Every source is closed."""
        totals = self._books.totals
        self._output.write(self._form.stat(None, totals) + self._form.bye(totals))
        self._summarise(totals, self.rows())

    def rows(self, open_ones: Iterable[Row] = ()) -> list[Row]:
        """The counts of every source, the open ones as given."""
        return self._books.rows(open_ones)

    def _summarise(self, totals: Totals, rows: list[Row]) -> None:
        """For a person; source by source only where the format does not say that itself."""
        self._console.summary(totals)
        if not self._form.stat(None, totals):
            self._console.table(table(rows, self._books.forgotten))

    # Its sources.

    def open(self, place: Place, scope: Scope) -> Account:
        """The account of a new source."""
        connections: Connections[Record] = Connections(
            scope, lambda connection: self._session(account, connection), peek=Peek
        )
        recorder = self._recorder
        reader = connections if recorder is None else recorder.record(place, connections)
        account = Account(place, connections, reader)  # which a session asks for only when packets come
        return account

    def opened(self, account: Account) -> None:
        """Its packets come from now on."""
        self.record()
        self._output.write(self._form.source("open", account.place))

    def deliver(self, account: Account, records: Sequence[Record]) -> None:
        """Report the records that a source's packets made, in order."""
        self._write(self._lines(account, records))
        self.record()

    def report(self, records: Iterable[tuple[Account, Record]]) -> None:
        """Report records of several sources, in order."""
        lines: list[str] = []
        for account, group in groupby(records, key=itemgetter(0)):
            lines += self._lines(account, [record for _, record in group])
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        """At once, and yet without much memory that is given back and asked for again each time."""
        for at in range(0, len(lines), _LINES_AT_ONCE):
            self._output.write("".join(lines[at : at + _LINES_AT_ONCE]))

    def record(self) -> None:
        """Write the packets that were read, where they are what is written."""
        if self._recorder is not None:
            self._output.write_bytes(self._recorder.take())

    def close(self, account: Account, ts: int, stat: Stat) -> None:
        """No more packets will come; `ts` in nanoseconds since 1970."""
        row = account.row(stat)
        self._books.close(row)
        if self._recorder is not None:
            self._recorder.close(account.place, ts, stat)
            self.record()
        self._output.write(self._form.source("closed", account.place) + self._form.stat(account.place, row.counts))

    def stay_within_bounds(
        self, accounts: Collection[Account], deliver: Callable[[Account, list[Record]], None]
    ) -> None:
        """Give up what the greediest source holds where all together hold too much: to `deliver`."""
        if len(accounts) * HELD_BY_SOURCE <= _HELD_BYTES:
            return
        if sum(account.connections.held for account in accounts) > _HELD_BYTES:
            largest = max(accounts, key=lambda account: account.connections.held)
            deliver(largest, largest.connections.relieve(largest.connections.held // 2))

    # What its sources' connections say.

    def _session(self, account: Account, connection: Connection[Record]) -> Session:
        return Session(connection, account.undecoded, self._body_limit, self._readers)

    def _lines(self, account: Account, records: Sequence[Record]) -> list[str]:
        shown = self._shape.apply(records, account.counts)
        account.count(shown)
        place, form = account.place, self._form
        return [
            form.fact(place, record) if isinstance(record, FactRecord) else form.exchange(place, record)
            for record in shown
        ]
