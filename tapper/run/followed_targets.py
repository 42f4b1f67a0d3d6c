"""The targets as they are now: those of the command line, and those of the feeds, which change."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tapper.targets.addresses import Address
from tapper.targets.feed import TargetFeed
from tapper.targets.pods import Targets, union


class FollowedTargets:
    """The feeds are entered and left by the caller."""

    def __init__(self, fixed: frozenset[Address], feeds: Sequence[TargetFeed]) -> None:
        self._fixed = Targets(fixed)
        self._feeds = feeds
        self._latest: dict[TargetFeed, Targets] = {}
        self.now = self._fixed
        """The union of all lists."""
        self.unacknowledged: int | None = None
        """The generation of the last list that has one; the caller sets it to None when the sources match the list."""

    @property
    def next_glance(self) -> float:
        """When to call `update` although no feed has become readable, by time.monotonic."""
        return min((feed.next_glance for feed in self._feeds), default=math.inf)

    def update(self) -> bool:
        """Take the feeds' news; whether there were any."""
        news = {feed: targets for feed in self._feeds if (targets := feed.news()) is not None}
        for targets in news.values():
            if targets.generation is not None:
                self.unacknowledged = targets.generation
        self._latest |= news
        if news:
            self.now = union([self._fixed, *self._latest.values()])
        return bool(news)
