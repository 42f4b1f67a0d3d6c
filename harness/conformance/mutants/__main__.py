"""Run one mutant, as the adapter contract wants it: python -m harness.conformance.mutants NAME"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from harness.conformance.mutants import wrapper
from harness.conformance.mutants.catalogue import named

_INSIDE = "--inside"
"""Only what is patched in the reference's process; a mutant's own process starts this where there is more to do."""
_REFERENCE = (sys.executable, "-m", "harness.adapters.shipped.reference")


def main() -> int:
    if not os.environ.get("TAPPER_HARNESS_CONTRACT"):
        sys.exit("a mutant is run by the conformance kit: tapper-harness mutants")
    os.environ["TAPPER_PURE"] = "1"  # what is compiled cannot be replaced; `named` may import what is to be
    inside = sys.argv[1] == _INSIDE
    name = sys.argv[2 if inside else 1]
    fault = named(name).fault
    if inside or not fault.outside():
        sys.argv[1:] = sys.argv[3:] if inside else []
        return _patched(fault.patches)
    if fault.patches:
        return wrapper.run(fault, (sys.executable, "-m", "harness.conformance.mutants", _INSIDE, name))
    return wrapper.run(fault, _REFERENCE)


def _patched(patches: Sequence[Callable[[], None]]) -> int:
    from harness.adapters.shipped.reference import arguments  # noqa: PLC0415 - after TAPPER_PURE is set, and only here
    from tapper.cli import main as tapper_main  # noqa: PLC0415 - likewise

    for patch in patches:
        patch()
    return tapper_main(arguments())


sys.exit(main())
