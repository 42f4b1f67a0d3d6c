"""All cases, in the order of the groups and their numbers."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from harness.conformance import groups
from harness.conformance.model import Case
from harness.errors import InternalError

ORDER = ("DISC", "NETNS", "CAP", "HTTP", "LIFE", "EDGE", "SEC", "GEN", "LOAD", "TLS", "MESH")


@cache
def cases() -> dict[str, Case]:
    """The cases by id. Raises `InternalError` for a repeated id, and for a case without a requirement."""
    found: dict[str, Case] = {}
    for module in iter_modules(groups.__path__, groups.__name__ + "."):
        for each in vars(import_module(module.name)).values():
            if isinstance(each, Case):
                if each.id in found:
                    raise InternalError(f"there are two cases {each.id}")
                if not each.requirement.endswith(".") or not each.explanation:
                    raise InternalError(f"the docstring of {each.id} lacks its requirement or its explanation")
                found[each.id] = each
    return dict(sorted(found.items(), key=lambda item: (ORDER.index(item[1].group), item[0])))
