"""Run one mutant: python -m harness.conformance.mutants NAME"""

from __future__ import annotations

import os
import sys

from harness.adapters.shipped.reference import arguments
from harness.conformance.mutants.model import all_mutants
from tapper.cli import main

name = sys.argv.pop(1)
if not os.environ.get("TAPPER_HARNESS_CONTRACT"):
    sys.exit("a mutant is run by the conformance kit: tapper-harness mutants")
all_mutants()[name].apply()
sys.exit(main(arguments()))
