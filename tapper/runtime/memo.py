"""Answers that are asked for again and again, kept for as long as they are few and short.

Header fields hardly change from one message of a service to the next, so what is made of one, at a cost, is mostly the
same as before. What comes from the wire may also be new each time, on purpose: so nothing long is kept, and with too
many everything is forgotten at once, which costs less than to know what was used last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST = 4096
LONGEST = 256
"""Characters of a key: a full memo is a few MB, whatever is sent."""


class Memo(dict[K, V]):
    """`memo[key]` is `function(key)`; `size` is a key's length in characters. Of keys up to `longest` at most `most`
    are kept. A dictionary, since one that has the answer gives it without a call."""

    __slots__ = ("_function", "_longest", "_most", "_size")

    def __init__(
        self, function: Callable[[K], V], size: Callable[[K], int], *, most: int = MOST, longest: int = LONGEST
    ) -> None:
        super().__init__()
        self._function = function
        self._size = size
        self._most = most
        self._longest = longest

    def __missing__(self, key: K) -> V:
        value = self._function(key)
        if self._size(key) <= self._longest:
            if len(self) >= self._most:
                self.clear()
            self[key] = value
        return value
