"""docs/performance.md, made from a saved run."""

from __future__ import annotations

import textwrap

from bench import table, words
from bench.result import Result

_WIDTH = 120
_HEAD = """# What tapping costs

{short}

![The figures as a picture](performance/bench.png)

This page is made by `script/bench` from the run saved in [performance/bench.json](performance/bench.json): do not edit
it. {kind}

<details><summary>The machine and the programs</summary>

{machine}
</details>

## How it is measured

nginx and h2load in a sandboxed node, 16 connections that are kept, 13 header fields a request. Each peer captures on
the lo where the plaintext is, all of them alternating in one run. CPU is user and system time of the peer's whole
process tree between two moments of rest, so without start and end, for 10,000 requests. Every request carries a nonce
that the server repeats: "seen" are the exchanges that were sent and reported, with the right answer where the peer
reports answers; "false reports" are reports of exchanges that were not sent or had been reported. "relative" is the CPU
time against the tapper's. Slow peers are given a tenth of the traffic at a tenth of the rate, and one round. Memory is
the proportional set size without capture rings. The tapper is compiled where there is a C compiler, and its plain form
is then a peer of its own; both run with `tapper-harness[fast]`, on the system's own Python where that is new enough:
one that was built without optimizations, as version managers build it, costs a tenth more. A whole run takes fifteen
minutes, `--quick` three; `--rounds`, `--only` and `--no-scaling` make it shorter.
"""

_TAIL = """
## What this does not show

- Other traffic: real headers vary, which costs HTTP/2's header compression more, and connections come and go.
- Other machines: compare the ratios, not the seconds. A loaded machine makes all of them dearer, and not all alike.
- What is lost on a network card: everything here is on lo and veths.
- What peers could do with unusual options; each runs as its manual shows, with a large buffer.
- The same work: the column on the right of each table says what each peer's output contains. tcpdump decodes nothing;
  "seen" is then what a search of its packets finds, and "-" where headers are compressed.
- The first ten seconds: for so long after its start the tapper reads every process again at each scan, which costs
  more.
- What is lost at the highest rate when that goes on: the rings carry what is not decoded yet as long as they have room
  (docs/istio.md), here for all of these requests.
- In the mesh the tapper reads the ciphertext on the wire as well, to tell whether a request was encrypted there; the
  others read lo alone.
- The profile is of the plain form: what is compiled cannot be seen that way.
"""


def page(result: Result) -> str:
    """The whole document."""
    loads = " and ".join(f"{when} {result.machine[f'load {when}']}" for when in ("before", "after"))
    kind = (
        f"**Preliminary: a quick run, one round, few requests, on a machine that others were using** (load {loads})."
        if result.quick
        else f"Load average {loads}."
    )
    told = [("date", result.date), *result.machine.items(), *result.versions.items()]
    machine = table.markdown([(name, value.replace("|", "/")) for name, value in told], ("", ""))
    for name, lacks in result.absent.items():
        machine += f"\nAbsent: {name} ({lacks}).\n"
    text = _HEAD.format(
        short=textwrap.fill(words.in_short(result), _WIDTH, break_on_hyphens=False), kind=kind, machine=machine
    )
    return text + "\n" + table.everything(result).replace("### ", "## ") + _TAIL
