"""Generates docs/performance.md from a saved run."""

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

h2load sends requests to nginx in a sandboxed node, over 16 persistent connections, with 13 header fields a request.
Each peer captures on the loopback interface that carries the plaintext. One run measures the peers alternately.

- **CPU s/10k** is the user and system time of the peer's whole process tree for 10,000 requests. It is measured between
  two moments at which the peer is idle, so it does not contain the peer's start and end.
- **relative** is that time divided by the tapper's.
- **seen** is the share of the sent exchanges that the peer reported. Every request carries a nonce that the server
  repeats. If the peer reports responses, the reported response must have the nonce of the request.
- **false reports** are reports of exchanges that were never sent, and repeated reports of one exchange.
- **memory** is the proportional set size without capture rings.

Slow peers get a tenth of the traffic at a tenth of the rate, and one round.

The tapper is compiled if the machine has a C compiler. The plain-Python form is then a second peer, "tapper (pure
Python)". The row "tapper (without fast)" shows what the folder tapper/fast buys: it is the same tapper with
`TAPPER_PLAIN=1`, so that only the plain core runs. All forms run with `tapper-harness[fast]`. They run on the system's
own Python if that is new enough, since a Python built without optimizations, as version managers build it, costs a
tenth more.

A whole run takes fifteen minutes, and a run with `--quick` three. `--rounds`, `--only` and `--no-scaling` make it
shorter.
"""

_TAIL = """
## What this does not show

- Other traffic. Real header fields vary, so that HPACK costs more, and real connections open and close.
- Other machines. Compare the ratios, not the seconds. Load on a machine raises all figures, but not all alike.
- Loss on a network card. All traffic here is on loopback interfaces and veths.
- Unusual options of the peers. Each peer runs as its manual shows, with a large buffer.
- Equal work. The last column of each table says what a peer's output contains. tcpdump decodes nothing: its "seen" is
  the result of a search of its packets, and "-" if header fields are compressed.
- The first ten seconds after the tapper's start. In that time every scan reads every process again, which costs more.
- Loss at the highest rate over a long time. The rings hold the packets that are not decoded yet while they have room
  ([istio.md](istio.md#the-socket-and-its-ring)), and here they have room for all of these requests.
- An equal number of interfaces in the mesh. There the tapper also reads the ciphertext on the node's interfaces, to
  tell whether a request was encrypted there. The other peers read lo only.
- A profile of the compiled form. The profile is of the plain-Python form, because the profiler does not see compiled
  functions.
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
