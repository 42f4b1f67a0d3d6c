"""`python -m tapper`."""

from __future__ import annotations

import gc
import sys

gc.disable()  # imports leave no garbage to look for
from tapper.cli import main  # noqa: E402 - see above

gc.enable()

sys.exit(main())
