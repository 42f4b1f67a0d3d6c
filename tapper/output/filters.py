"""Which exchanges are reported.

Each kind of condition is a list, and one of its values has to hold; all kinds that are given have to hold. What an
exchange does not show (its request or its response was not seen) meets no condition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tapper.errors import UsageError
from tapper.protocols.exchange import Exchange
from tapper.protocols.headers import Headers
from tapper.protocols.messages import Request

_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a token, RFC 9110 section 9.1
_STATUS = re.compile(r"[1-9](?:[0-9][0-9]|[xX][xX])")
_HOST = re.compile(r"[^\s/@]+")
_PORT = re.compile(r":[0-9]*\Z")

Condition = Callable[[str], bool]


class Filter:
    """`method`: exact, and case matters. `path`: see `_path`. `status`: 404, or 5xx for a class. `host`: see `_host`.

    Raises UsageError, with the value and the option in it, for a value that nothing could meet.
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
        """Whether everything passes."""
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
    """The host, with its port where there is one: of an absolute target, else of the first Host or :authority field;
    empty where nothing says it."""
    target = request.head.target
    if not target.startswith("/") and "://" in target:
        return target.partition("://")[2].partition("/")[0].partition("?")[0]
    return field(request.head.headers, "host") or field(request.head.headers, ":authority") or ""


def field(headers: Headers, name: str) -> str | None:
    """The value of the first field of that name, given in lower case; None without one."""
    return next((value for key, value in headers if key.lower() == name), None)


def _checked(values: Iterable[str], form: re.Pattern[str], what: str, option: str) -> list[str]:
    found = list(values)
    for value in found:
        if not form.fullmatch(value):
            raise UsageError(f"{value!r} is not {what} ({option})")
    return found


def _path(value: str) -> Condition:
    """A prefix of the path; with * or ? in it a glob for the whole path, in which * stands for slashes as well."""
    if not value.startswith(("/", "*")):
        raise UsageError(f"{value!r} is not a path: it has to begin with / or * (--path)")
    if "*" in value or "?" in value:
        return _glob(value)
    return lambda path: path.startswith(value)


def _host(value: str) -> Condition:
    """The whole host, * and ? as in a path. Ports are only compared where the value has one."""
    matches = _glob(value.lower())
    if _PORT.search(value) and not value.endswith("]") and (value.count(":") == 1 or "]:" in value):
        return matches
    return lambda host: matches(_PORT.sub("", host) if host.count(":") == 1 or "]:" in host else host)


def _glob(value: str) -> Condition:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in re.sub(r"\*+", "*", value))
    matches = re.compile("".join(parts), re.DOTALL).fullmatch
    return lambda text: matches(text) is not None
