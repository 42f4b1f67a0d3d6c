"""What a run has made is removed on every way out, in reverse order, and said."""

from __future__ import annotations

import os
import signal

import pytest

from harness.errors import Leak
from harness.worlds.cluster.cleanup import Ledger, ending_by_sigterm


def test_in_reverse_order_and_said() -> None:
    said: list[str] = []
    removed: list[str] = []

    def remover(name: str, there: bool = True) -> None:
        def remove() -> bool:
            removed.append(name)
            return there

        ledger.enter(name, remove)

    ledger = Ledger(said.append)
    remover("cluster")
    remover("never made", there=False)
    remover("namespace")
    ledger.clear()
    assert removed == ["namespace", "never made", "cluster"]
    assert said == ["removed namespace", "removed cluster"]
    ledger.clear()
    assert len(removed) == 3


def test_one_that_cannot_be_removed_keeps_nobody_else() -> None:
    said: list[str] = []
    ledger = Ledger(said.append)
    ledger.enter("cluster", lambda: True)

    def fail() -> bool:
        raise OSError("no answer")

    ledger.enter("namespace", fail)
    with pytest.raises(Leak, match=r"left behind: namespace \(no answer\)"):
        ledger.clear()
    assert said == ["could not remove namespace: no answer", "removed cluster"]


def test_ctrl_c_during_clean_up_is_heard_and_does_not_end_it() -> None:
    said: list[str] = []
    ledger = Ledger(said.append)
    ledger.enter("cluster", lambda: True)

    def interrupted() -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return True

    ledger.enter("namespace", interrupted)
    before = signal.getsignal(signal.SIGINT)
    ledger.clear()
    assert "removed namespace" in said
    assert "removed cluster" in said
    assert any("removing what was made" in line for line in said)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_ends_a_run_as_ctrl_c_does() -> None:
    with pytest.raises(KeyboardInterrupt), ending_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
