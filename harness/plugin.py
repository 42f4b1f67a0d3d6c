"""The pytest plugin by the name that it had before: `-p harness.plugin`. It is `tapper_harness`."""

from __future__ import annotations

pytest_plugins = ["tapper_harness"]
