"""Plans: what is written is read again, and what is no plan is told with its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings

from harness.adapters.contract import Feature
from harness.conformance.generated.checks import PlanError
from harness.conformance.generated.plan import (
    FIN,
    HTTP2,
    SERVER,
    UNTIL_CLOSE,
    WEBSOCKET,
    Close,
    Content,
    Happening,
    Plan,
    PlannedExchange,
    Segmentation,
    Talk,
)
from harness.conformance.generated.plan_file import from_json, to_json
from harness.conformance.generated.strategies import THEMES, plans

QUICK = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(plans(frozenset(Feature)))
def test_what_is_written_is_read_again(plan: Plan) -> None:
    assert from_json(to_json(plan)) == plan


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_asks_for_no_more_than_it_says(theme: str) -> None:
    @QUICK
    @given(THEMES[theme].draw())
    def holds(plan: Plan) -> None:
        assert plan.features <= THEMES[theme].features

    holds()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "it is no JSON"),
        ("[]", "the plan is no object"),
        ('{"pods": 0}', "the plan: pods has to be from 1 to 5, and is 0"),
        ('{"pods": "2"}', "the plan, pods has to be int, and is '2'"),
        ('{"pods": true}', "the plan, pods has to be int, and is True"),
        ('{"talk": []}', "the plan has talk, which no Plan has"),
        ('{"talks": [{"pod": 1}]}', "a plan of 1 pods has no pod 1"),
        ('{"talks": [{"rounds": 301}]}', "the plan, talks 0: rounds has to be from 1 to 300"),
        ('{"talks": [{"exchanges": [{}, {}], "rounds": 151}]}', "the number of exchanges has to be from 1 to 300"),
        ('{"talks": [{"exchanges": [{"interim": ["x"]}]}]}', "exchanges 0: an interim status has to be from 100"),
        ('{"talks": [{"exchanges": [{"request_fields": [["a"]]}]}]}', "request_fields is no list of pairs of texts"),
        ('{"talks": [{"exchanges": [{"request_fields": [["a", "\\n"]]}]}]}', "a field's value has to be bytes"),
        ('{"talks": [{"exchanges": [{"request_fields": [["a:", ""]]}]}]}', "a field's name has to be letters"),
        ('{"talks": [{"exchanges": [{"method": "GET /"}]}]}', "method has to be letters"),
        ('{"talks": [{"exchanges": [{"path": "/a b"}]}]}', "path has to begin with /"),
        ('{"talks": [{"exchanges": [{"response": {"size": 9999999}}]}]}', "size has to be from 0 to 1048577"),
        ('{"talks": [{"exchanges": [{"response": {"framing": "close"}}]}]}', "is ended by the server's FIN"),
        ('{"talks": [{"exchanges": [{"request": {"framing": "close"}}]}]}', "a request cannot end with its connection"),
        ('{"name": "a/b"}', "name has to be letters"),
    ],
)
def test_what_is_no_plan(text: str, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        from_json(text)
    assert sentence in str(caught.value)


def test_what_is_by_default_is_not_written() -> None:
    plan = Plan(talks=(Talk(exchanges=(PlannedExchange(response=Content(size=3)),)),))
    assert json.loads(to_json(plan)) == {"talks": [{"exchanges": [{"response": {"size": 3}}]}]}


def test_all_bodies_together_are_bounded() -> None:
    exchange = PlannedExchange(response=Content(size=1 << 20))
    with pytest.raises(PlanError, match="all bodies together"):
        Plan(talks=(Talk(exchanges=(exchange,), rounds=65),))


@pytest.mark.parametrize(
    ("plan", "needed"),
    [
        (Plan(), set()),
        (Plan(talks=(Talk(together=2),)), {Feature.HTTP1}),
        (Plan(talks=(Talk(ipv6=True),)), {Feature.HTTP1, Feature.IPV6}),
        (Plan(talks=(Talk(segments=Segmentation(cut=7)),)), {Feature.HTTP1}),
        (Plan(talks=(Talk(protocol=HTTP2),)), {Feature.HTTP2}),
        (Plan(talks=(Talk(protocol=WEBSOCKET),)), {Feature.HTTP1, Feature.WEBSOCKET}),
        (Plan(happenings=(Happening("burst"),)), {Feature.TARGETS_DYNAMIC}),
        (Plan(happenings=(Happening("envoy-returns"),)), set()),
    ],
)
def test_what_a_plan_needs(plan: Plan, needed: set[Feature]) -> None:
    assert plan.features == needed


def test_an_answer_until_the_close_is_the_last_one() -> None:
    ended = PlannedExchange(response=Content(framing=UNTIL_CLOSE))
    Talk(exchanges=(PlannedExchange(), ended), close=Close(FIN, SERVER))
    with pytest.raises(PlanError, match="only the last answer"):
        Talk(exchanges=(ended, PlannedExchange()), close=Close(FIN, SERVER))
    with pytest.raises(PlanError, match="only the last answer"):
        Talk(exchanges=(ended,), rounds=2, close=Close(FIN, SERVER))
