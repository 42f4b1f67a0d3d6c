"""Takes a second until it captures."""

import time

from working import work

time.sleep(1)
work()
