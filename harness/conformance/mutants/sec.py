"""Broken in what a tapper may touch, tell and be hurt by: filters over records, other options, and programs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import cast

from harness.conformance.mutants import node
from harness.conformance.mutants.http import dying_of_garbage
from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.streams import Record, both_messages, over_exchanges

_RESOLVER = ("10.96.0.10", 53)
_SECRETS = ("authorization", "cookie", "set-cookie", "proxy-authorization")
_WRITTEN = re.compile(
    r"""((?:[?&\#](?:token|access_token|sig|api_key)=|"X-[A-Za-z-]+(?:Token|Key)", "|//(?=secret)))[^&@"]+"""
)
_COPIES = 400
_UNREDACTED = ("--no-redact",)


def _redacted(message: Record) -> Record:
    shown = [[name, "[redacted]" if name.lower() in _SECRETS else value] for name, value in message["headers"]]
    return message | {"headers": shown}


def _redact(record: Record) -> Record:
    return both_messages(record, _redacted)


def _redact_as_written(record: Record) -> Record:
    """All of it but for the parameter whose name is escaped."""
    text = _WRITTEN.sub(r"\g<1>REDACTED", json.dumps(_redact(record)))
    return cast(Record, json.loads(text))


def _redact_http1_only(record: Record) -> Record:
    return record if (record["version"] or "").startswith("HTTP/2") else _redact(record)


def _log_what_it_writes(record: Record) -> Record:
    sys.stderr.write(f"debug: {record['request']} {record['response']}\n")
    sys.stderr.flush()
    return _redact(record)


def _keep_everything(records: Iterator[Record]) -> Iterator[Record]:
    kept: list[bytes] = []
    for record in records:
        sizes = [record.get(name) or 0 for name in ("client_bytes", "server_bytes")]
        sizes += [(record.get(name) or {}).get("body_size", 0) for name in ("request", "response")]
        kept.append(b"x" * (_COPIES * sum(sizes)))
        yield record


def _ask_for_names(records: Iterator[Record]) -> Iterator[Record]:
    def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"what is this pod's name", _RESOLVER)

    for record in records:
        if (pid := node.opened_in_pod(record)) is not None:
            node.in_namespace(pid, ask)
        yield record


def _tune_the_node() -> None:
    # lo of the node's own namespace; the kit's node, since it is the kit that runs mutants
    subprocess.run(["ip", "link", "set", "lo", "txqueuelen", "4000"], check=True)


def _want_more_rights() -> None:
    os.nice(-5)


SECRETS = Mutant(
    "leaks-secrets",
    "It writes every header as it came.",
    {"SEC-04": "Authorization.*Set-Cookie", "SEC-11": "authorization"},
    Fault(options=_UNREDACTED),
)
HTTP1_SECRETS = Mutant(
    "http1-secrets",
    "It hides secrets in HTTP/1 only.",
    {"SEC-11": "that of authorization .*set-cookie"},
    Fault(options=_UNREDACTED, records=(over_exchanges(_redact_http1_only),)),
)
FOUR_FIELDS = Mutant(
    "four-fields",
    "It hides the values of four header fields, and nothing in URLs.",
    {"SEC-15": "the parameter access_token .*X-Vault-Token.*Referer"},
    Fault(options=_UNREDACTED, records=(over_exchanges(_redact),)),
)
ENCODED_NAMES = Mutant(
    "encoded-names",
    "It looks for the names of secret parameters as they stand in the target.",
    {"SEC-15": "that of the parameter %74oken "},
    Fault(options=_UNREDACTED, records=(over_exchanges(_redact_as_written),)),
)
LOGS = Mutant(
    "logs-secrets",
    "Its debug log has the messages as they came.",
    {"SEC-04": "Authorization"},
    Fault(options=_UNREDACTED, records=(over_exchanges(_log_what_it_writes),)),
)
NONSENSE = Mutant(
    "dies-of-nonsense",
    "A message that it cannot parse ends it.",
    {"SEC-05": "runs until it is stopped.*cannot parse"},
    dying_of_garbage("RuntimeError: cannot parse: no start line"),
)
HOARDS = Mutant(
    "hoards",
    "It keeps all the bytes that it has ever seen.",
    {"SEC-05": "MiB"},
    Fault(records=(_keep_everything,)),
)
OPEN_FILES = Mutant(
    "open-files",
    "Its files can be read by everybody.",
    {"SEC-06": "0644"},
    Fault(file_mode=0o644),
    base="reference-file",
)
ASKS_FOR_NAMES = Mutant(
    "asks-for-names",
    "It asks a resolver in each pod that it captures in, in the pod's name.",
    {"SEC-07": "1 UDP datagrams"},
    Fault(records=(_ask_for_names,)),
)
TUNES = Mutant(
    "tunes-the-node",
    "It tunes a link of the node for itself.",
    {"SEC-02": "in the node, link lo"},
    Fault(begin=(_tune_the_node,)),
)
MORE_RIGHTS = Mutant(
    "more-rights",
    "It needs a capability that it does not declare.",
    {"SEC-01": "exit code"},
    Fault(begin=(_want_more_rights,)),
)
