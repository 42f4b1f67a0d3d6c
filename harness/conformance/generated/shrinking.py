"""A plan that fails made smaller: parts are left out and values made ordinary for as long as it still fails.

It works on plans and not on how they were drawn, so that a plan from a file is made smaller as well, and each attempt,
which takes a second to play, is a plan that a person would try next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from harness.conformance.generated.checks import PlanError
from harness.conformance.generated.plan import Content, Plan, PlannedExchange, Talk

_KEPT = frozenset({"name", "pods", "pod", "protocol", "talks", "exchanges", "messages", "happenings", "size"})
"""Fields that are made smaller, if at all, in a way of their own."""


def smallest(plan: Plan, fails: Callable[[Plan], bool], within_s: float) -> Plan:
    """The smallest plan found that fails. `fails` plays one; after `within_s` seconds no other is tried."""
    deadline = time.monotonic() + within_s
    tried = {plan}
    smaller = True
    while smaller:
        smaller = False
        for candidate in candidates(plan):
            if candidate in tried:
                continue
            if time.monotonic() >= deadline:
                return plan
            tried.add(candidate)
            if fails(candidate):
                plan, smaller = candidate, True
                break
    return plan


def candidates(plan: Plan) -> Iterator[Plan]:
    """Plans that are smaller by one step, the largest steps first."""
    for talks in _shorter(plan.talks):
        yield _with_pods(replace(plan, talks=talks))
    for happenings in _shorter(plan.happenings, least=0):
        yield _with_pods(replace(plan, happenings=happenings))
    for number, talk in enumerate(plan.talks):
        for other in _talks(talk):
            yield replace(plan, talks=(*plan.talks[:number], other, *plan.talks[number + 1 :]))


def _talks(talk: Talk) -> Iterator[Talk]:
    """A connection made smaller by one step, as far as that is one."""

    def attempt(**changes: Any) -> Iterator[Talk]:
        try:
            yield replace(talk, **changes)
        except PlanError:
            return  # some values go together

    for exchanges in _shorter(talk.exchanges):
        yield from attempt(exchanges=exchanges)
    for messages in _shorter(talk.messages, least=0):
        yield from attempt(messages=messages)
    for changes in _ordinary(talk):
        yield from attempt(**changes)
    for number, exchange in enumerate(talk.exchanges):
        for other in _exchanges(exchange):
            yield from attempt(exchanges=(*talk.exchanges[:number], other, *talk.exchanges[number + 1 :]))


def _exchanges(exchange: PlannedExchange) -> Iterator[PlannedExchange]:
    for changes in _ordinary(exchange):
        yield replace(exchange, **changes)
    for pairs in _shorter(exchange.request_fields, least=0):
        yield replace(exchange, request_fields=pairs)
    for pairs in _shorter(exchange.response_fields, least=0):
        yield replace(exchange, response_fields=pairs)
    for content in _contents(exchange.request):
        yield replace(exchange, request=content)
    for content in _contents(exchange.response):
        yield replace(exchange, response=content)


def _contents(content: Content) -> Iterator[Content]:
    for changes in _ordinary(content):
        yield replace(content, **changes)
    for size in (content.size // 2, content.size - 1):
        if 0 < size < content.size:
            yield replace(content, size=size)


def _ordinary(record: Any) -> Iterator[dict[str, Any]]:
    """Each field that is not as it is by default."""
    for each in fields(record):
        if each.name not in _KEPT and getattr(record, each.name) != each.default:
            yield {each.name: each.default}


def _shorter(row: tuple[Any, ...], least: int = 1) -> Iterator[tuple[Any, ...]]:
    """Either half, or without one of them."""
    half = len(row) // 2
    if half >= max(least, 1):
        yield row[:half]
        yield row[half:]
    if len(row) > least:
        for number in range(len(row)):
            yield row[:number] + row[number + 1 :]


def _with_pods(plan: Plan) -> Plan:
    """Of no more pods than it takes, numbered anew."""
    numbers = sorted({each.pod for each in plan.talks} | {each.pod for each in plan.happenings})
    talks = tuple(replace(each, pod=numbers.index(each.pod)) for each in plan.talks)
    happenings = tuple(replace(each, pod=numbers.index(each.pod)) for each in plan.happenings)
    return replace(plan, pods=len(numbers), talks=talks, happenings=happenings)
