"""`python -m tapper`."""

from __future__ import annotations

import sys

from tapper.cli import main

sys.exit(main())
