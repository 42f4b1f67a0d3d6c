"""Says that it is ready, and ends well."""

import os

from working import told

os.write(int(told("READY_FD")), b"1")
