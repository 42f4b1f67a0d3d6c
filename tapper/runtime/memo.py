"""A cache of a function's answers.

Header fields hardly change from one message of a service to the next, so an answer that was computed once is mostly the
answer of the next time. A sender may also make every value a new one. So no long key is kept, and a full cache forgets
everything at once: to know what was used last would cost more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST = 4096
LONGEST = 256  # characters of a key: a full memo takes a few MB, whatever is sent


class Memo(dict[K, V]):
    """`memo[key]` is `function(key)`. `size` gives a key's length in characters.

    At most `most` keys of up to `longest` characters are kept. It is a dictionary, which gives a known answer without a
    call of Python code.
    """

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
