"""`python -m tapper`."""

from __future__ import annotations

import gc
import sys

gc.disable()  # nothing that is imported is garbage
from tapper.cli import main  # noqa: E402 - see above

gc.enable()

sys.exit(main())
