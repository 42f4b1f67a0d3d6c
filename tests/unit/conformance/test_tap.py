"""What a tap proves while the tapper runs: an output that is played here takes the tapper's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from harness.adapters.contract import Adapter, Feature, load
from harness.adapters.observed import MARKER, Output, ReportedExchange
from harness.adapters.process import TapperProcess
from harness.adapters.records import Records
from harness.adapters.running import Ending, Running
from harness.adapters.targets import Target
from harness.conformance import groups, watched
from harness.conformance.groups.disc import linkerd_proxy
from harness.conformance.model import Outcome
from harness.conformance.tap import TrialTap
from harness.conformance.truth import Sent, new_nonce
from harness.conformance.verdict import Late, NotClaimed, Violation, set_aside
from harness.waiting import DEFAULT_TIMEOUT

LONG = 10 * DEFAULT_TIMEOUT
"""Of which a tenth is waited for (`patience`), by whoever is not played in vain."""
ADAPTERS = Path(groups.__file__).parents[2] / "adapters" / "shipped"


class Said(Records):
    """An output that mentions what is in `text`, and has these acknowledgements and exchanges."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.acks: list[int] = []
        self.exchanges: list[ReportedExchange] = []

    def mentioned(self) -> set[str]:
        return {marker.decode() for marker in MARKER.findall(self.text.encode())}

    def seen(self) -> list[ReportedExchange]:
        return self.exchanges

    def records(self, kind: str) -> list[Mapping[str, Any]]:
        return [{"type": kind, "generation": number} for number in self.acks]


class Played(Running):
    """A tapper that runs, and whose output the test writes."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__(adapter, [])
        self.output = Said()
        self.ready = False

    @property
    def running(self) -> bool:
        return True

    @property
    def returncode(self) -> int | None:
        return None

    def ended(self) -> str | None:
        return None

    def outputs(self) -> Sequence[tuple[str, Output]]:
        return [("node", self.output)]

    def read_log(self) -> str:
        return ""

    def declared_ready(self) -> bool:
        return self.ready

    def _update(self, targets: Sequence[Target]) -> None: ...

    def stop(self, _patience: float = 1.0) -> Ending:
        return Ending()

    def save(self) -> None: ...


@pytest.fixture
def played() -> Played:
    return Played(load(ADAPTERS / "reference.toml"))


def tap(played: Played, patience: float = 0.1) -> TrialTap:
    return TrialTap(cast(TapperProcess, played), patience)


def request() -> Sent:
    nonce = new_nonce()
    return Sent(nonce, "GET", f"/{nonce}", 200, ())


@pytest.mark.parametrize("claims", [{Feature.HTTP1}, {Feature.HTTP2}, {Feature.PACKETS}, set(), {Feature.POD_IDENTITY}])
def test_answers_are_asked_of_those_who_claim_to_report_them(played: Played, claims: set[Feature]) -> None:
    sent = request()
    played.adapter = replace(played.adapter, claims=frozenset(claims))
    played.output.exchanges = [ReportedExchange(sent.target)]
    ended = tap(played)
    ended.end()
    if claims <= {Feature.POD_IDENTITY}:
        ended.expect_answered([sent])
        return
    with pytest.raises(Violation, match="with its answer"):
        ended.expect_answered([sent])


def seeing(played: Played, answers: Iterator[bool]) -> Callable[[], list[Sent]]:
    """Send two requests a time; whether both are reported is the next of the answers. The first one always is."""

    def send() -> list[Sent]:
        sent = [request(), request()]
        played.output.text += sent[0].nonce
        if next(answers):
            played.output.text += sent[1].nonce
        return sent

    return send


def test_all_of_what_was_sent_at_once_has_to_be_seen(played: Played) -> None:
    answers = iter([False, False, True, False])
    sent = tap(played).prove_all(seeing(played, answers), "requests", within=LONG)
    assert all(each.nonce in played.output.text for each in sent)
    assert next(answers) is False
    with pytest.raises(StopIteration):
        next(answers)


def test_what_is_reported_late_counts_while_more_is_sent(played: Played) -> None:
    rounds: list[list[Sent]] = []

    def send() -> list[Sent]:
        rounds.append([request(), request()])
        if len(rounds) == 3:
            played.output.text += "".join(each.nonce for each in rounds[0])
        return rounds[-1]

    assert tap(played).prove_all(send, "requests", within=LONG) == rounds[0]
    assert len(rounds) == 3


def test_half_of_it_is_late(played: Played) -> None:
    with pytest.raises(Late, match="expected requests within"):
        tap(played).prove_all(seeing(played, iter(lambda: False, True)), "requests", within=1.0)


def test_silence_is_nothing_seen_of_a_request(played: Played) -> None:
    rounds = []

    def send() -> list[Sent]:
        rounds.append(request())
        if len(rounds) < 4:
            played.output.text += rounds[-1].nonce
        return rounds[-1:]

    tap(played).prove_silence(send, "silence", latency=0.0, within=LONG)
    assert len(rounds) == 4


def test_who_goes_on_talking_is_late(played: Played) -> None:
    def send() -> list[Sent]:
        sent = request()
        played.output.text += sent.nonce
        return [sent]

    with pytest.raises(Late, match=r"expected silence within.*seen: what was sent last, as before"):
        tap(played).prove_silence(send, "silence", latency=0.0, within=1.0)


def test_who_never_acknowledges_is_not_waited_for(played: Played) -> None:
    assert not tap(played).wait_acknowledged()


def test_an_acknowledgement_is_of_the_newest_list(played: Played) -> None:
    played.output.acks = [1, 2]
    played.retarget([])
    assert tap(played).wait_acknowledged()
    played.retarget([])
    with pytest.raises(Late, match="acknowledgement of generation 3"):
        tap(played).wait_acknowledged()


def test_nothing_is_claimed_about_readiness_without_a_way_to_say_it(played: Played) -> None:
    played.adapter = replace(played.adapter, ready_by_fd=False)
    with pytest.raises(NotClaimed, match=r"run\.ready is none"):
        tap(played).wait_declared_ready()


def test_what_the_kit_finds_for_a_tapper_is_delegated_claimed_or_not() -> None:
    adapter = load(ADAPTERS / "tcpdump.toml")
    result = set_aside(linkerd_proxy, adapter)
    assert result is not None
    assert result.outcome is Outcome.DELEGATED
    result = set_aside(linkerd_proxy, replace(adapter, delegates_discovery=False))
    assert result is not None
    assert result.outcome is Outcome.NOT_CLAIMED


def test_its_word_that_it_is_ready_is_the_moment_for_another_canary(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no proof: the first came too early to be seen, and by itself the next would come too late."""
    monkeypatch.setattr(watched, "CANARY_INTERVAL_S", 5)
    sent: list[Sent] = []

    def send() -> list[Sent]:
        sent.append(request())
        if len(sent) == 2:
            played.output.text = sent[1].target
        played.ready = True
        return sent[-1:]

    assert tap(played).prove(send, "a canary") == sent
    assert len(sent) == 2
