"""The last steps of a packet's way, which a live capture and a file share.

    source -> stream -> protocol -> record -> shape (filters, redaction) -> format -> output

The capture opens an account for each source, gives the source's packets to the account's reader, and delivers the
records that the reader makes. The writer counts and writes them, and bounds the memory of all sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from tapper import __version__
from tapper.output.console import Console
from tapper.output.counts import table
from tapper.output.format import Format
from tapper.output.pcapng import Recorder
from tapper.output.records import Place, Row, Stat, TlsProcess, Totals
from tapper.output.shape import Shape
from tapper.output.sink import Sink
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.records import FactRecord, Record
from tapper.protocols.session import Session
from tapper.run.accounts import Account, Books
from tapper.run.parts import PLAIN, Parts
from tapper.streams.bounds import HELD_BYTES, RELIEF
from tapper.streams.connection import Connection, Scope
from tapper.wire.verdict import TlsProbe

_LINES_AT_ONCE = 64


class RecordWriter:
    """One run's output. Methods that write raise Closed when the output's reader has gone, and TapperError when no more
    can be written."""

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
        self.output = output
        self._form = form
        self._console = console
        self._shape = shape
        self._recorder = recorder
        self._body_limit = body_limit
        self._parts = parts
        self._books = Books()

    def gather(self) -> None:
        """From now on write only at `flush`, or when much has been gathered."""
        self.output.gather()

    def flush(self) -> None:
        """Write everything that was gathered."""
        self.record()
        self.output.flush()

    # The run.

    def begin(self) -> None:
        """Write the first record."""
        self.output.ending = self._form.ending().encode()
        self.output.write(self._form.hello(__version__, os.getpid()))

    def acknowledge(self, generation: int) -> None:
        """The sources match the list of targets of this generation."""
        self.output.write(self._form.ack(generation))

    def report_so_far(self, rows: list[Row]) -> None:
        """Report the counts so far: of the closed sources, and of the open ones, which are given."""
        totals = self._books.totals.copy()
        totals.add(*(row.counts for row in rows))
        records = [self._form.stat(row.place, row.counts, so_far=True) for row in rows]
        self.output.write("".join([*records, self._form.stat(None, totals, so_far=True)]))
        self._console.warn("so far:")
        self._summarise(totals, self.rows(rows))

    def end(self) -> None:
        """Report the totals, when every source is closed."""
        totals = self._books.totals
        self.output.write(self._form.stat(None, totals) + self._form.bye(totals))
        self._summarise(totals, self.rows())

    def rows(self, open_ones: Iterable[Row] = ()) -> list[Row]:
        """The counts of the closed sources, and of the open ones, which are given."""
        return self._books.rows(open_ones)

    def _summarise(self, totals: Totals, rows: list[Row]) -> None:
        """Tell a person. The table of sources is only for formats that have no record of a source's counts."""
        self._console.summary(totals)
        if not self._form.stat(None, totals):
            self._console.table(table(rows, self._books.forgotten))

    # Sources.

    def open(self, place: Place, scope: Scope, beside: Account | None = None) -> Account:
        """The account of a new source. A connection may cross this source and the one `beside` it: then the latter
        reads the packets of both."""
        connections = self._parts.connections(
            scope, lambda connection: self._session(account, connection), peek=TlsProbe
        )
        recorder = self._recorder
        reads = connections if beside is None else beside.connections
        reader = reads if recorder is None else recorder.record(place, reads)
        account = Account(place, connections, reader)  # the lambda above needs it when packets come
        return account

    def opened(self, account: Account) -> None:
        """Report that a source is open."""
        self.record()
        self.output.write(self._form.source("open", account.place))

    def unreadable(self, process: TlsProcess) -> None:
        """Report that the TLS of a process cannot be read."""
        self.output.write(self._form.unreadable(process))

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
        """Write the lines in batches: one large string would be allocated and freed each time."""
        for at in range(0, len(lines), _LINES_AT_ONCE):
            self.output.write("".join(lines[at : at + _LINES_AT_ONCE]))

    def record(self) -> None:
        """Write the recorded packets, if packets are recorded."""
        if self._recorder is not None:
            self.output.write_bytes(self._recorder.take())

    def close(self, account: Account, ts: int, stat: Stat) -> None:
        """Report that a source is closed; `ts` in nanoseconds since 1970."""
        row = account.row(stat)
        self._books.close(row)
        if self._recorder is not None:
            self._recorder.close(account.place, ts, stat)
            self.record()
        self.output.write(self._form.source("closed", account.place) + self._form.stat(account.place, row.counts))

    def stay_within_bounds(
        self, accounts: Collection[Account], deliver: Callable[[Account, list[Record]], None]
    ) -> None:
        """Let the source that holds most give up what was quiet for the longest time, until all sources together hold
        no more than HELD_BYTES. `deliver` gets the records that this makes."""
        while sum(account.connections.held for account in accounts) > HELD_BYTES:
            largest = max(accounts, key=lambda account: account.connections.held)
            before = largest.connections.held
            self._console.warn_once(
                largest.place.identity,
                f"{HELD_BYTES >> 20} MiB of unfinished traffic are held, most of it of {largest.place}: "
                "its longest quiet connections are given up",
            )
            deliver(largest, largest.connections.relieve(max(0, before - HELD_BYTES // RELIEF)))
            if largest.connections.held >= before:
                return

    def _session(self, account: Account, connection: Connection[Record]) -> Session:
        streams = self._shape.streams
        return Session(connection, account.undecoded, self._body_limit, self._parts.readers, streams=streams)

    def _lines(self, account: Account, records: Sequence[Record]) -> list[str]:
        shown = self._shape.apply(records, account.counts)
        account.count(shown)
        place, form = account.place, self._form
        return [
            form.fact(place, record) if isinstance(record, FactRecord) else form.exchange(place, record)
            for record in shown
        ]
