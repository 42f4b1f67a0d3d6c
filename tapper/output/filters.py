"""Selects the exchanges that are reported.

Each option has a list of values, one of which must match. If several options are given, all must match. An exchange
whose request was not seen matches no method, path or host; one whose response was not seen matches no status.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tapper.errors import UsageError
from tapper.protocols.exchange import Exchange
from tapper.protocols.heads import TOKEN
from tapper.protocols.messages import Request

_METHOD = re.compile(f"{TOKEN}+")  # RFC 9110 section 9.1
_STATUS = re.compile(r"[1-9](?:[0-9][0-9]|[xX][xX])")
_HOST = re.compile(r"[^\s/@]+")
_PORT = re.compile(r":[0-9]*\Z")

Condition = Callable[[str], bool]


class Filter:
    """The values of the options --method, --path, --status and --host.

    A method must be equal, case included. A status is a number such as 404, or 5xx for a class. For paths and hosts see
    `_path` and `_host`. Raises UsageError, which names value and option, for a value that nothing can match.
    """

    def __init__(
        self,
        method: Iterable[str] = (),
        path: Iterable[str] = (),
        status: Iterable[str] = (),
        host: Iterable[str] = (),
    ) -> None:
        self._methods = frozenset(_checked(method, _METHOD, "a method such as GET", "--method"))
        self._paths = [_path(value) for value in path]
        self._statuses = frozenset(
            value.lower() for value in _checked(status, _STATUS, "a status such as 404 or 5xx", "--status")
        )
        self._hosts = [_host(value) for value in _checked(host, _HOST, "a host name", "--host")]

    @property
    def empty(self) -> bool:
        """True if every exchange passes."""
        return not (self._methods or self._paths or self._statuses or self._hosts)

    def passes(self, exchange: Exchange) -> bool:
        request, response = exchange.request, exchange.response
        if self._statuses:
            status = "" if response is None else str(response.head.status)
            if status not in self._statuses and status[:1] + "xx" not in self._statuses:
                return False
        if not (self._methods or self._paths or self._hosts):
            return True
        if request is None or (self._methods and request.head.method not in self._methods):
            return False
        if self._paths:
            path = path_of(request.head.target)
            if not any(condition(path) for condition in self._paths):
                return False
        if self._hosts:
            host = host_of(request).lower()
            return any(condition(host) for condition in self._hosts)
        return True


def path_of(target: str) -> str:
    """The path of a request target in any of its forms (RFC 9112 section 3.2), without the query."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target.partition("?")[0]


def host_of(request: Request) -> str:
    """The host, with its port if there is one: that of an absolute target, else the first Host or :authority field;
    empty if there is none."""
    target = request.head.target
    if not target.startswith("/") and "://" in target:
        return target.partition("://")[2].partition("/")[0].partition("?")[0]
    return request.head.fields.get("host") or request.head.fields.get(":authority") or ""


def _checked(values: Iterable[str], form: re.Pattern[str], noun: str, option: str) -> list[str]:
    """The values, each of which matches `form`. Raises UsageError."""
    checked = list(values)
    for value in checked:
        if not form.fullmatch(value):
            raise UsageError(f"{value!r} is not {noun} ({option})")
    return checked


def _path(value: str) -> Condition:
    """Matches paths with this prefix. A value with * or ? is a glob for the whole path; * matches slashes as well."""
    if not value.startswith(("/", "*")):
        raise UsageError(f"{value!r} is not a path: it has to begin with / or * (--path)")
    if "*" in value or "?" in value:
        return _glob(value)
    return lambda path: path.startswith(value)


def _host(value: str) -> Condition:
    """Matches the whole host, with * and ? as in a path. Ports are compared only if the value has one."""
    matches = _glob(value.lower())
    if _PORT.search(value) and not value.endswith("]") and (value.count(":") == 1 or "]:" in value):
        return matches
    return lambda host: matches(_PORT.sub("", host) if host.count(":") == 1 or "]:" in host else host)


def _glob(value: str) -> Condition:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in re.sub(r"\*+", "*", value))
    matches = re.compile("".join(parts), re.DOTALL).fullmatch
    return lambda text: matches(text) is not None
