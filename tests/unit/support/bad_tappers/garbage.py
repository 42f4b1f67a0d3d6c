"""Works, and writes what is no record in between; the argument says what."""

import os
import sys

from working import report, requests

KINDS = {
    "bytes": b"\x00\xff\xfe\x1b[31m{]\n",
    "types": b'{"type": "http", "method": 7}\n{"type": 7}\n[]\n{"type": "http", "status": "ok"}\n'
    b'{"type": "http", "request": []}\n{"type": "http", "request": {"headers": {"a": "b"}}}\n'
    b'{"type": "http", "request": {"headers": [[1, 2]]}}\n{"type": "http", "status": true}\n',
    "base64": b'{"type": "http", "request": {"body_b64": "***"}}\n',
    "deep": b"[" * 200_000 + b"\n",
    "long": b'{"type": "hello", "banner": "' + b"x" * 400_000 + b'"}\n',
    "surrogate": b'{"type": "http", "target": "/\\ud800", "method": "\\u001b"}\n',
    "number": b'{"type": "http", "status": ' + b"9" * 5000 + b"}\n",
    "half": b"\n",
}
for method, target in requests():
    os.write(1, KINDS[sys.argv[1]])
    report(method, target)
    if sys.argv[1] == "half":
        sys.stdout.write('{"type": "ht')
        sys.stdout.flush()
