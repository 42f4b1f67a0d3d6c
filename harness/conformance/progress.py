"""Following a run: a live display on a terminal, a plain line for each case elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.conformance.model import Outcome, Result
from harness.conformance.schedule import Finished, Started
from harness.conformance.suite import Run
from tapper.output.escape import escape, shortened

_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.TIMEOUT: "bold red",
    Outcome.ERROR: "bold magenta",
    Outcome.NON_STRICT: "yellow",
    Outcome.BLOCKED: "yellow",
}
_QUIET = frozenset({Outcome.PASS, Outcome.NOT_CLAIMED, Outcome.DELEGATED, Outcome.EXEMPT})
_SENTENCE = 160
_REFRESHES_A_SECOND = 8


def follow(run: Run) -> bool:
    """Run it and show its progress. Returns whether SIGINT interrupted it; the results so far are kept."""
    console = Console()
    events = run.events()
    try:
        if console.is_terminal:
            _live(console, events, len(run.chosen))
        else:
            for event in events:
                if isinstance(event, Finished):
                    sys.stdout.write(line(event.result) + "\n")
                    sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: ending what still runs\n")
        return True
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()
    return False


def line(result: Result) -> str:
    """One case in one line."""
    about = f" {shortened(escape(result.sentence), _SENTENCE)}" if result.sentence else ""
    return f"{result.case:<9} {result.outcome:<11} {result.seconds:5.1f} s{about}"


class _Display:
    """The running cases with their times, and the counts of outcomes. Failures scroll by above it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._running: dict[str, float] = {}
        self._counts: dict[Outcome, int] = {}

    def started(self, case: str) -> None:
        self._running[case] = time.monotonic()

    def finished(self, result: Result) -> None:
        self._running.pop(result.case, None)
        self._counts[result.outcome] = self._counts.get(result.outcome, 0) + 1

    def __rich__(self) -> RenderableType:
        done = sum(self._counts.values())
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(self._total, done, width=40), f"{done}/{self._total}")
        counts = Text("  ").join(
            Text(f"{number} {outcome}", _STYLES.get(outcome, "dim")) for outcome, number in self._counts.items()
        )
        now = time.monotonic()
        running = "  ".join(f"{case} {now - since:.0f} s" for case, since in self._running.items())
        return Group(bar, counts, Text(f"running: {running or '-'}", "dim"))


def _live(console: Console, events: Iterator[Started | Finished], total: int) -> None:
    display = _Display(total)
    with Live(display, console=console, refresh_per_second=_REFRESHES_A_SECOND, transient=True):
        for event in events:
            if isinstance(event, Started):
                display.started(event.job.case)
            else:
                display.finished(event.result)
                if event.result.outcome not in _QUIET:
                    console.print(Text(line(event.result), _STYLES.get(event.result.outcome, "")))
