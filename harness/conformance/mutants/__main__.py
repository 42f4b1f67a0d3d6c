"""Run one mutant: python -m harness.conformance.mutants NAME"""

from __future__ import annotations

import os
import sys

os.environ["TAPPER_PURE"] = "1"  # what is compiled cannot be replaced piece by piece

from harness.conformance.mutants.model import PREFIX_OF_WILD, named

name = sys.argv.pop(1)
if not os.environ.get("TAPPER_HARNESS_CONTRACT"):
    sys.exit("a mutant is run by the conformance kit: tapper-harness mutants")
mutant = named(name)
if name.startswith(PREFIX_OF_WILD):
    mutant.apply()  # before anything of the tapper is imported

from harness.adapters.shipped.reference import arguments  # noqa: E402
from tapper.cli import main  # noqa: E402

if not name.startswith(PREFIX_OF_WILD):
    mutant.apply()
sys.exit(main(arguments()))
