"""Which form runs, and that these tests run with the one that is meant."""

from __future__ import annotations

import os
import sys

import tapper
from tapper.protocols import http1


def test_the_form_is_what_it_is_said_to_be() -> None:
    compiled = not (http1.__file__ or "").endswith(".py")
    assert (tapper.FORM == "compiled") == compiled
    assert not compiled or "tapper__mypyc" in sys.modules


def test_these_tests_run_with_the_form_that_is_meant() -> None:
    """tests/unit/compiled runs them a second time, with the other one."""
    assert os.environ.get("TAPPER_FORM_UNDER_TEST", tapper.FORM) == tapper.FORM
