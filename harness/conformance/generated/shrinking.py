"""A plan that fails made smaller, by hypothesis: it draws the same plan again and then ever simpler ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import HypothesisException
from hypothesis.strategies import SearchStrategy

from harness.conformance.generated.plan import Plan


class _Fails(Exception):
    """What hypothesis looks for."""


class _Enough(BaseException):
    """The time is over. No Exception, so that hypothesis does not take it for a failure of the plan."""


def smallest(
    strategy: SearchStrategy[Plan],
    number: int,
    count: int,
    failing: Plan,
    fails: Callable[[Plan], bool],
    within_s: float,
) -> Plan:
    """The simplest plan found that fails as `failing` does.

    `failing` is one of the `count` that `drawing.drawn` draws by the seed `number`, but for its name, which those that
    are tried get, too. `fails` plays a plan; after `within_s` seconds no other is tried.
    """
    found = failing
    deadline = time.monotonic() + within_s
    reached = False

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(strategy)
    def attempt(drawn: Plan) -> None:
        nonlocal found, reached
        plan = replace(drawn, name=failing.name)
        if not reached and plan != failing:
            return
        if time.monotonic() >= deadline:
            raise _Enough
        if reached and not fails(plan):
            return
        reached, found = True, plan
        raise _Fails

    try:
        attempt()
    except (_Fails, _Enough, HypothesisException):
        pass  # a plan that does not fail each time it is played ends in the last of these
    return found
