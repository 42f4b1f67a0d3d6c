"""Making a plan that fails smaller: parts are left out and fields get their default values, as long as it still fails.

This works on any plan, also on one from a file. An attempt takes a second to play, so each attempt is a plan that a
person would try next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from harness.conformance.generated.checks import PlanError
from harness.conformance.generated.plan import Content, Plan, PlannedExchange, Talk

_KEPT = frozenset({"name", "pods", "pod", "protocol", "talks", "exchanges", "messages", "happenings", "size"})
"""Fields that do not get their default values; some of them are made smaller in other ways."""


def smallest(plan: Plan, fails: Callable[[Plan], bool], within_s: float) -> Plan:
    """The smallest plan that was found to fail. `fails` plays a plan; no plan is tried after `within_s` seconds."""
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
    """Plans that are smaller by one step; the largest steps come first."""
    for talks in _shorter(plan.talks):
        yield _with_pods(replace(plan, talks=talks))
    for happenings in _shorter(plan.happenings, least=0):
        yield _with_pods(replace(plan, happenings=happenings))
    for number, talk in enumerate(plan.talks):
        for other in _talks(talk):
            yield replace(plan, talks=(*plan.talks[:number], other, *plan.talks[number + 1 :]))


def _talks(talk: Talk) -> Iterator[Talk]:
    """The connection, smaller by one step."""

    def attempt(**changes: Any) -> Iterator[Talk]:
        try:
            yield replace(talk, **changes)
        except PlanError:
            return  # the new value contradicts another one

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
    """One change for each field that has not its default value."""
    for field in fields(record):
        if field.name not in _KEPT and getattr(record, field.name) != field.default:
            yield {field.name: field.default}


def _shorter(row: tuple[Any, ...], least: int = 1) -> Iterator[tuple[Any, ...]]:
    """Either half of a row, then the row without one of its members."""
    half = len(row) // 2
    if half >= max(least, 1):
        yield row[:half]
        yield row[half:]
    if len(row) > least:
        for number in range(len(row)):
            yield row[:number] + row[number + 1 :]


def _with_pods(plan: Plan) -> Plan:
    """The plan with the pods that it still needs, numbered anew."""
    numbers = sorted({talk.pod for talk in plan.talks} | {change.pod for change in plan.happenings})
    talks = tuple(replace(talk, pod=numbers.index(talk.pod)) for talk in plan.talks)
    happenings = tuple(replace(change, pod=numbers.index(change.pod)) for change in plan.happenings)
    return replace(plan, pods=len(numbers), talks=talks, happenings=happenings)
