"""The instructions of a library in the memory of a process: a tapper must leave them as they were."""

from __future__ import annotations

from pathlib import Path

_LIBRARY = "libssl"
_MOST = 64 << 20
_EXAMPLES = 3

Instructions = dict[int, bytes]
"""The executable mappings of a library: their first address -> their bytes."""


def of_library(pid: int) -> Instructions:
    """Read them from a process's memory (proc_pid_mem(5)). `pid` is as this machine numbers it. A process without the
    library has none."""
    found: Instructions = {}
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps.splitlines():
            addresses, rights, *_ = line.split()
            if "x" in rights and line.rpartition("/")[2].startswith(_LIBRARY):
                start, end = (int(address, 16) for address in addresses.split("-"))
                memory.seek(start)
                found[start] = memory.read(min(end - start, _MOST))
    return found


def differences(before: Instructions, after: Instructions) -> str:
    """Where they differ, in words."""
    if before.keys() != after.keys():
        return "other mappings of the library"
    places = [
        (start + at, old[at], new[at])
        for start, old in before.items()
        for new in (after[start],)
        for at in range(len(old))
        if old != new and old[at] != new[at]
    ]
    shown = ", ".join(f"0x{new:02x} in place of 0x{old:02x} at {at:#x}" for at, old, new in places[:_EXAMPLES])
    return f"{len(places)} other bytes: {shown}" if places else "no difference any longer"
