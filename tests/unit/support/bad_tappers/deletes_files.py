"""Works, after it has deleted its own folder and every log of the node."""

import shutil
from pathlib import Path

from working import report, requests, told

seeing = requests()
first = next(seeing)
shutil.rmtree(Path(told("TARGETS_FILE")).parent)
for log in Path("/run/node").glob("*.log"):
    log.unlink()
report(*first)
for method, target in seeing:
    report(method, target)
