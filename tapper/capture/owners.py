"""The addresses that the network namespaces of some processes have."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tapper.capture.namespace import run_inside
from tapper.discovery.interfaces import own_addresses
from tapper.discovery.netns import NamespaceId
from tapper.discovery.procfs import Procfs
from tapper.errors import MissingCapabilityError, NamespaceGoneError, TapperError
from tapper.targets.addresses import Address


def owned_by(
    procfs: Procfs, processes: Iterable[tuple[int, NamespaceId]], told: Callable[[str], None]
) -> dict[NamespaceId, frozenset[Address]]:
    """Ask each namespace once, by the first of its processes (pid, namespace) that still lives.

    One that cannot be asked is left out, and `told` gets the reason; nothing is asked any more where the right to enter
    namespaces is missing.
    """
    owned: dict[NamespaceId, frozenset[Address]] = {}
    for pid, netns in processes:
        if netns in owned:
            continue
        try:
            owned[netns] = run_inside(procfs.namespace_path(pid), netns, own_addresses)
        except NamespaceGoneError:
            continue  # the process died since it was found: another one may lead there
        except MissingCapabilityError as error:
            told(f"claims of addresses are not checked: {error}")
            break
        except TapperError as error:
            told(f"what process {pid} claims is not checked: {error}")
    return owned
