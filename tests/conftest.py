"""For all tests: the fixtures by short names, what hypothesis may do on a machine it knows nothing of, and what comes
first."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest_plugins = ["harness.short_names"]

# no folder of examples, which may not be writable; no time limits, which say more about the machine than about the code
settings.register_profile("anywhere", database=None, deadline=None)
settings.load_profile("anywhere")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the compiled form wait for a compiler that takes minutes. One of them begins it, and the others come
    last, so that no other process of pytest-xdist waits meanwhile."""
    compiled = [item for item in items if item.path.parent.name == "compiled"]
    others = [item for item in items if item.path.parent.name != "compiled"]
    items[:] = [*compiled[:1], *others, *compiled[1:]]
