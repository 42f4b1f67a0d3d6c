"""Goes into the background in the old way: two forks, a session of its own, and the parent ends with 0."""

import os

from working import work

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        work()
os._exit(0)
