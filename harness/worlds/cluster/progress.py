"""Progress messages: in colour on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape


def teller(capture: Any = None) -> Callable[[str], None]:
    """A function that writes a sentence, with the seconds since now. `capture` is pytest's capture manager, which is
    asked to let it through."""
    began = time.monotonic()
    console = Console(file=sys.__stderr__, highlight=False, soft_wrap=True)

    def say(sentence: str) -> None:
        seconds = f"{time.monotonic() - began:6.1f} s"
        if capture is None:
            console.print(f"[dim]{seconds}[/dim] {escape(sentence)}")
            return
        with capture.global_and_fixture_disabled():
            console.print(f"\n[dim]{seconds}[/dim] {escape(sentence)}")

    return say
