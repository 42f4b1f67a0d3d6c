"""Works, but where its file should be it lays something else: a pipe, an endless device, itself, a huge hole."""

import os
import sys
from pathlib import Path

from working import requests, told

path = told("OUTPUT")
match sys.argv[1]:
    case "pipe":
        os.mkfifo(path)
    case "device":
        Path(path).symlink_to("/dev/zero")
    case "loop":
        Path(path).symlink_to(path)
    case "hole":
        os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40)
for _ in requests():
    pass
