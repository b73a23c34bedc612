"""Buckets, shares of rates, the ramp and the brake: what goes through never passes the limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_kit import ManualClock

from batch_inferd.scheduling.account import Account
from batch_inferd.scheduling.brake import EPOCH_S, Brake
from batch_inferd.scheduling.charges import Charges
from batch_inferd.scheduling.limits import Limits, weights
from batch_inferd.scheduling.ramp import FIRST, Ramp
from batch_inferd.scheduling.shares import Shares
from batch_inferd.scheduling.starts import Starts
from batch_inferd.worker.buckets import TokenBucket, TokenDebt
from batch_inferd.worker.gate import Gate
from batch_inferd.worker.record import Record


@given(st.floats(0.5, 500), st.lists(st.floats(0, 0.5), max_size=300))
def test_a_bucket_never_gives_more_than_its_rate(rate, waits):
    bucket, now, taken = TokenBucket(), 100.0, []
    bucket.set_rate(rate, now)
    for wait in waits:
        now += wait
        while bucket.delay(now) == 0.0:
            bucket.take(now)
            taken.append(now)
    for first in range(0, len(taken), 7):
        span = now - taken[first]
        assert len(taken) - first <= span * rate + 0.05 * rate + 2


def test_a_rate_of_nothing_lets_nothing_through():
    bucket, debt = TokenBucket(), TokenDebt()
    bucket.set_rate(0.0, 0.0)
    debt.set_rate(0.0, 0.0)
    assert bucket.delay(5.0) == debt.delay(5.0) == float("inf")


def test_a_faster_rate_is_felt_at_once():
    bucket = TokenBucket()
    bucket.set_rate(0.01, 10.0)
    bucket.take(10.0)
    bucket.set_rate(10.0, 10.0)
    assert bucket.delay(10.0) == pytest.approx(0.1)


NOW = 1000.0


class TestTokens:
    def test_an_estimate_is_taken_ahead_and_what_was_not_used_comes_back(self):
        debt = TokenDebt()
        debt.set_rate(100.0, NOW)
        debt.take(1000, NOW)
        assert debt.delay(NOW) == pytest.approx(9.5)  # it may begin half a second's tokens early
        debt.settle(1000, 200)
        assert debt.delay(NOW) == pytest.approx(1.5)
        assert debt.delay(NOW + 1.5) == 0.0

    def test_more_than_estimated_is_charged_and_an_unknown_usage_is_the_estimate(self):
        for used, seconds in ((300, 2.5), (None, 0.5), (0, 0.0)):
            debt = TokenDebt()
            debt.set_rate(100.0, NOW)
            debt.take(100, NOW)
            debt.settle(100, used)
            assert debt.delay(NOW) == pytest.approx(seconds)

    def test_a_debt_is_in_tokens_whatever_the_rate(self):
        debt = TokenDebt()
        debt.set_rate(100.0, NOW)
        debt.take(1050, NOW)
        debt.settle(1050, None)
        debt.set_rate(1000.0, NOW)
        assert debt.delay(NOW) == pytest.approx(1.0)

    def test_calls_begun_without_a_limit_count_when_one_is_set(self):
        debt = TokenDebt()
        debt.take(500, 0.0)
        debt.set_rate(100.0, 0.0)
        debt.settle(500, 100)
        assert debt.delay(1.0) == pytest.approx(0.0, abs=1e-6)

    @given(st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 1)), min_size=50, max_size=400))
    def test_what_is_used_stays_about_the_rate(self, calls):
        debt, now, spent = TokenDebt(), 0.0, 0
        debt.set_rate(500.0, now)
        for tokens, share in calls:
            now += debt.delay(now)
            debt.take(tokens, now)
            now += 0.2
            used = int(tokens * share)
            debt.settle(tokens, used)
            spent += used
        assert spent <= 500.0 * (now + 1.0) + 2000


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["divide", "hear", "answer", "die"]),
            st.floats(0, 50),
            st.integers(0, 2),
        ),
        max_size=80,
    )
)
def test_rates_of_workers_never_pass_the_whole(steps):
    """Workers hear late and answer late; the whole stays the same."""
    shares, names, whole, word = Shares(), ["a", "b", "c"], 60.0, 0
    heard: dict[str, tuple[int, float]] = {}
    mail: dict[str, list[tuple[int, float]]] = {}
    present: list[str] = []
    for kind, weight, which in steps:
        name = names[which]
        if kind == "divide":
            if name not in present:
                present.append(name)
            word += 1
            demand = {one: 1.0 if one == name else weight for one in present}
            for worker, rate in shares.divide(whole, demand, word).items():
                mail.setdefault(worker, []).append((word, rate))
        elif kind == "hear" and mail.get(name):
            heard[name] = mail[name].pop(0)
        elif kind == "answer" and name in present:
            shares.reported(name, heard.get(name, (0, 0.0))[0])
        elif kind == "die" and name in present:
            present.remove(name)
            shares.gone(name)
            heard.pop(name, None)
            mail[name] = []
        assert sum(rate for _, rate in heard.values()) <= whole * (1 + 1e-9)


def test_a_share_moves_once_it_was_let_go():
    shares = Shares()
    assert shares.divide(10.0, {"a": 1.0, "b": 1.0}, 1) == {"a": 5.0, "b": 5.0}
    assert shares.divide(10.0, {"a": 0.0, "b": 1.0}, 2) == {"a": 0.0, "b": 5.0}
    shares.reported("a", 1)
    assert shares.divide(10.0, {"a": 0.0, "b": 1.0}, 3)["b"] == 5.0
    shares.reported("a", 2)
    assert shares.divide(10.0, {"a": 0.0, "b": 1.0}, 4)["b"] == 10.0
    shares.gone("b")
    assert shares.divide(10.0, {"a": 1.0}, 5) == {"a": 10.0}


def test_weights_follow_priority_and_the_unsent_records():
    def task(priority: int, *leases: tuple[str, int]) -> Any:
        made = [
            SimpleNamespace(seat=SimpleNamespace(name=name), unstarted=left, asked_to_end="")
            for name, left in leases
        ]
        return SimpleNamespace(config={"config": {"priority": priority}}, leases=dict(enumerate(made)))

    huge, small = task(0, ("a", 200), ("b", 200), ("a", 50)), task(2, ("a", 7), ("b", 0))
    assert weights([huge, small]) == {"a": 4.5, "b": 0.5}


def test_the_strictest_limit_of_each_kind_holds():
    limits = [Limits(64, 100, 600.0, None, 9), Limits(200, 80, None, 5.0, 7), Limits(10, 90, 300.0, 9.0, 8)]
    assert Limits.strictest(limits) == Limits(80, 80, 300.0, 5.0, 7)
    assert Limits.strictest([]) is None


def test_the_ramp_doubles_each_second_grows_with_answers_and_ends():
    ramp = Ramp()
    assert ramp.bound(64, 5.0) == FIRST
    ramp.begin(5.0)
    assert [ramp.bound(64, 5.0 + second) for second in (0, 1, 2)] == [FIRST, 2 * FIRST, 4 * FIRST]
    ramp.answered(10)
    assert ramp.bound(64, 7.0) == 42
    assert ramp.bound(64, 9.0) == 64
    assert ramp.bound(1000, 9.0) == 1000
    throttled = Ramp()
    throttled.end()
    assert throttled.bound(64, 0.0) == 64


def test_the_brake_slows_an_outage_and_lets_go():
    brake, now = Brake(), 0.0
    for _ in range(5):
        brake.observe({"ok": 10, "failed": 9, "broken": 9}, 100.0, now)
        now += EPOCH_S
    assert (brake.share, brake.rate) == (1.0, None)  # some failures are no outage
    for expected in (50.0, 25.0, 12.5, 6.25, 5.0, 5.0):
        brake.observe({"ok": 0, "failed": 20, "broken": 20}, 100.0, now)
        now += EPOCH_S
        assert brake.rate == expected
    for _ in range(6):
        brake.observe({"ok": 20, "failed": 0, "broken": 0}, 5.0, now)
        now += EPOCH_S
    assert brake.rate is None


def test_records_that_are_refused_do_not_put_the_brake_on():
    brake = Brake()
    for second in range(10):
        brake.observe({"ok": 0, "failed": 50, "broken": 0}, 50.0, float(second) * EPOCH_S)
    assert brake.rate is None


def test_a_debt_outlives_a_rate_of_nothing():
    bucket = TokenDebt()
    bucket.set_rate(1000.0, 0.0)
    bucket.take(0, 0.0)
    bucket.settle(0, 20_500)
    bucket.set_rate(1.0, 0.0)
    bucket.set_rate(0.0, 0.0)
    bucket.settle(0, 1000)  # a call that ended meanwhile
    bucket.set_rate(1000.0, 50.0)
    assert bucket.delay(50.0) == pytest.approx(21.0)


def test_calls_of_a_worker_without_a_share_are_charged_to_those_who_have_one():
    charges = Charges()
    charges.owe(900.0)
    assert charges.divide({"a": 0.0, "b": 20.0, "c": 10.0}, 30.0, NOW) == {"a": 0.0, "b": 600.0, "c": 300.0}
    assert charges.divide({"a": 30.0, "b": 0.0, "c": 0.0}, 30.0, NOW) == {"a": 0.0, "b": 600.0, "c": 300.0}
    charges.owe(900.0)
    assert charges.divide({"a": 0.0}, 30.0, NOW + 1) == {"a": 0.0}  # nobody has a share: time pays
    assert charges.divide({"a": 30.0}, 30.0, NOW + 11) == {"a": 600.0}


def test_tokens_used_without_a_share_hold_the_account_back():
    """A worker's only call ends when its share is with another one already."""
    account, clock = Account("acc"), ManualClock()
    gates = {name: Gate("acc", clock) for name in "ab"}
    lone: Any = SimpleNamespace(length=400, strikes=0)

    def round_of(**weights: float) -> None:
        account.set_limits([Limits(64, 64, tpm=6000.0)])
        for _ in range(3):  # heard, answered, and given on
            for name, word in account.divide(list(gates), weights, clock.time).items():
                gates[name].tell(
                    word.slots, word.rate_per_s, None, tokens=word.tokens_per_s, room=word.bytes,
                    first_in=word.first_in_s, charged=word.charged, cut=word.cut, word=word.word,
                )  # fmt: skip
            for name, gate in gates.items():
                if (report := gate.report()) is not None:
                    account.observe(name, report, clock.now(), clock.time)

    round_of(a=1.0)
    gates["a"].sent(Record(lone, 1, 0, 400), 100)
    round_of(b=1.0)
    assert gates["b"].delay(clock.time) == 0.0
    gates["a"].returned(Record(lone, 1, 0, 400), 100, 5050)
    round_of(b=1.0)
    assert gates["b"].delay(clock.time) == pytest.approx(50.0, abs=1.0)  # at 100 tokens a second
    clock.time += 51.0
    assert gates["b"].delay(clock.time) == 0.0


@pytest.mark.parametrize("ended", [True, False])
def test_a_dead_workers_debt_holds_the_next_one_back(ended):
    """Whether its call had ended: the service counts what was sent."""
    account, clock = Account("acc"), ManualClock()
    gates = {name: Gate("acc", clock) for name in "ab"}
    lone: Any = SimpleNamespace(length=400, strikes=0)

    def round_of(*names: str) -> None:
        account.set_limits([Limits(64, 64, tpm=6000.0)])
        for _ in range(3):
            for name, word in account.divide(list(names), dict.fromkeys(names, 1.0), clock.time).items():
                gates[name].tell(
                    word.slots, word.rate_per_s, None, tokens=word.tokens_per_s, charged=word.charged,
                    cut=word.cut, word=word.word,
                )  # fmt: skip
                if (report := gates[name].report()) is not None:
                    account.observe(name, report, clock.now(), clock.time)

    round_of("a")
    gates["a"].sent(Record(lone, 1, 0, 400), 5050)
    if ended:
        gates["a"].returned(Record(lone, 1, 0, 400), 5050, 5050)
    round_of("a")
    clock.time += 10.0  # it pays 1,000 of them, and is killed
    account.gone("a", clock.time)
    clock.time += 5.0  # nobody is there: time pays
    round_of("b")
    assert gates["b"].delay(clock.time) == pytest.approx(35.0, abs=1.0)


def test_a_worker_that_owes_nothing_more_leaves_no_debt():
    charges = Charges()
    charges.divide({"a": 30.0}, 30.0, NOW)
    charges.reported("a", 600.0, NOW)
    charges.gone("a", NOW + 21)
    assert charges.divide({"b": 30.0}, 30.0, NOW + 21) == {"b": 0.0}


def test_first_calls_are_spaced_by_the_whole_rate():
    starts, rates = Starts(), dict.fromkeys("abc", 0.1)
    assert starts.waits(rates, 0.3, NOW) == pytest.approx({"a": 0.0, "b": 1 / 0.3, "c": 2 / 0.3})
    assert starts.waits(rates, 0.3, NOW + 60) == {}
    assert starts.waits(rates | {"d": 0.1}, 0.4, NOW + 61) == pytest.approx({"d": 2.5})
    starts.waits(dict.fromkeys("abcd", 0.0), 0.4, NOW + 62)
    assert starts.waits({"b": 0.4}, 0.4, NOW + 63) == pytest.approx({"b": 3.0})  # after the first of "d"
    starts.waits({}, None, NOW + 64)
    assert starts.waits({"b": 0.4}, 0.4, NOW + 90) == {"b": 0.0}


def test_a_first_call_waits_as_told_or_an_interval():
    bucket = TokenBucket()
    bucket.set_rate(0.1, NOW, 7.0)
    assert bucket.delay(NOW) == pytest.approx(7.0)
    bucket.set_rate(0.5, NOW + 1)  # the others have ended
    assert bucket.delay(NOW + 1) == pytest.approx(1.0)
    bucket.take(NOW + 2)
    assert bucket.delay(NOW + 2) == pytest.approx(2.0)
    bucket.set_rate(0.1, NOW + 3)
    assert bucket.delay(NOW + 3) == pytest.approx(9.0)
    bucket.set_rate(0.0, NOW + 4)
    bucket.set_rate(0.1, NOW + 5, 4.0)
    assert bucket.delay(NOW + 5) == pytest.approx(4.0)
