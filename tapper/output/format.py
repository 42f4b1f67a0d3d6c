"""The base of all output formats."""

# ruff: noqa: ARG002 - a method that shows nothing uses none of its arguments

from __future__ import annotations

from collections.abc import Sequence

from tapper.discovery.finders import Finding
from tapper.output.records import Owned, Place, TlsProcess, Totals
from tapper.protocols.records import ExchangeRecord, FactRecord
from tapper.runtime.native import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Format:
    """Turns records into text. A text ends with an LF, or is empty if the format does not show such records.

    This class shows nothing, which suits -o pcapng: a file of packets has no records. Other formats override the
    methods of the records that they show.
    """

    def hello(self, version: str, pid: int, /) -> str:
        """The run begins."""
        return ""

    def source(self, state: str, place: Place, /) -> str:
        """A source is `open` or `closed`."""
        return ""

    def ack(self, generation: int, /) -> str:
        """The sources are those that the target list of this generation asks for."""
        return ""

    def exchange(self, place: Place, record: ExchangeRecord, /) -> str:
        return ""

    def fact(self, place: Place, record: FactRecord, /) -> str:
        return ""

    def stat(self, place: Place | None, counts: Totals, /, *, so_far: bool = False) -> str:
        """The counts of a source, or for None of the whole run. `so_far`: the source or the run goes on."""
        return ""

    def bye(self, totals: Totals, /) -> str:
        """The run is over."""
        return ""

    def ending(self) -> str:
        """The text that completes the output after any record, if there is no room for `bye`."""
        return ""

    def unreadable(self, process: TlsProcess, /) -> str:
        """The TLS of a process cannot be read."""
        return ""

    def tls_processes(self, found: Sequence[TlsProcess], /) -> str:
        """The answer of `tapper discover --tls`."""
        return ""

    def processes(self, found: Sequence[Finding], owned: Owned, /) -> str:
        """The answer of `tapper discover`."""
        return ""
