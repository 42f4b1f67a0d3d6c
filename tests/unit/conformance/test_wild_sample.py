"""A few wild mutants, other ones with every commit. What no case finds is a fault of the kit, and printed."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys

from adapter_files import REPOSITORY
from kit_command import COMMAND, ENVIRON

from harness.conformance.mutants import wild
from harness.conformance.mutants.conditions import CONDITIONS
from harness.conformance.mutants.rules import RULES

COUNT = 6
KNOWN = {
    "mtls": "what crossed the wire beneath a leg is recorded by no case",
    "trailers": "who gives no trailers says less; HTTP-09 and HTTP-19 ask for them, and no other case",
    "message-side": "the oracle does not compare WebSocket messages",
    "message-lost": "likewise; HTTP-13 asks for some",
    "with-many-connections": "only LOAD-04 has so many, and does not record its pod",
    "request-field+only-long-targets": "the oracle overlooks it",
    "answer-field+only-long-targets": "the oracle overlooks it",
    "request-field+only-unanswered": "the oracle asks little of half an exchange",
    "longer+only-unanswered": "the oracle asks little of half an exchange",
    "last-fields+only-http2": "SEC-11 hides both lines, and one hidden line looks like the other",
    "last-fields+from-2nd-of-connection": "SEC-11 hides both lines, and one hidden line looks like the other",
}
"""What the kit does not find yet, and why: rules, conditions, or both."""
UNEXPLAINED = 1
"""Of a sample, how many may be found by no case and not be among KNOWN: of all 1,850, one in twenty is."""
SURVIVOR = re.compile(r"^(\S+) is not found by ", re.MULTILINE)


def seed() -> int:
    """The same for one commit, so that a run can be repeated; without git, the same for one day."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return int(done.stdout[:8], 16) if done.returncode == 0 else datetime.datetime.now(datetime.UTC).toordinal()


def test_what_is_known_exists() -> None:
    assert KNOWN.keys() <= {*wild.names(), *RULES, *CONDITIONS}


def test_a_sample_of_wild_mutants_is_found() -> None:
    arguments = ["mutants", "--wild", str(COUNT), "--seed", str(seed())]
    done = subprocess.run([*COMMAND, *arguments], env=ENVIRON, capture_output=True, text=True, check=False, timeout=600)
    sys.stdout.write(done.stdout)
    again = f"Again: tapper-harness {' '.join(arguments)}"
    assert done.returncode in (0, 1), f"{again}\n{done.stderr[-2000:]}"
    assert again in done.stdout
    survivors = [name for name in SURVIVOR.findall(done.stdout) if not {name, *name.split("+")} & KNOWN.keys()]
    assert len(survivors) <= UNEXPLAINED, f"{again}\n{done.stdout}"
