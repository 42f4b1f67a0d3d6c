"""For all tests: the fixtures by short names, and what hypothesis may do on a machine it knows nothing of."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["harness.short_names"]

# no folder of examples, which may not be writable; no time limits, which say more about the machine than about the code
settings.register_profile("anywhere", database=None, deadline=None)
settings.load_profile("anywhere")
