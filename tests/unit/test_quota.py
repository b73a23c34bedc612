"""Headers on limits: read leniently, bounded, and a ceiling or a short hold at most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.scheduling.account import Account
from batch_inferd.scheduling.limits import Limits
from batch_inferd.scheduling.quota import HOLD_MAX_S, Quota, Told, duration, read

NOW = 1_760_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0), ("6m0s", 360.0), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("2m59.56s", 179.56), ("7", 7.0),
        ("0.25", 0.25), ("1d", 86400.0), ("2025-10-09T08:53:30Z", 10.0), ("2025-10-09T08:53:30+00:00", 10.0),
        (str(int(NOW) + 5), 5.0), (str((int(NOW) + 5) * 1000), 5.0), ("2025-10-09T08:00:00Z", 0.0),
        ("", None), ("soon", None), ("-3", None), ("1s later", None), ("nan", None), ("²", None),
        ("9" * 40, None),
        ("2025-10-09T08:53:30", None),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    assert duration(text, NOW) == (None if seconds is None else pytest.approx(seconds))


def openai(limit, remaining, reset):
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(remaining),
        "x-ratelimit-reset-requests": reset,
    }


def test_the_families_of_names():
    assert read(openai(600, 599, "100ms"), "requests", NOW) == Told(600, 599, 0.1)
    told = {
        "anthropic-ratelimit-tokens-limit": "80000",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2025-10-09T08:53:25Z",
    }
    assert read(told, "tokens", NOW) == Told(80000, 0, 5.0)
    assert read({}, "tokens", NOW) == Told(None, None, None)


@given(st.dictionaries(st.sampled_from([*openai(1, 1, ""), "other"]), st.text(max_size=60)))
def test_nothing_in_a_header_fails_a_call(headers):
    hold = Quota("requests").update(headers, NOW, 0.0)
    assert 0.0 <= hold <= HOLD_MAX_S


def test_a_window_that_is_spent_holds_until_its_reset():
    quota = Quota("requests")
    assert quota.update(openai(600, 300, "7s"), NOW, 0.0) == 0.0
    assert quota.update(openai(600, 0, "42s"), NOW, 0.0) == 1.0  # it may be a bucket still
    assert quota.update(openai(600, 0, "41s"), NOW, 1.0) == 41.0
    assert quota.update(openai(600, 0, "6h0m0s"), NOW, 1.1) == HOLD_MAX_S


def test_an_empty_bucket_is_no_window():
    quota = Quota("requests")
    for second in range(10):
        assert quota.update(openai(600, 0, "59.9s"), NOW, float(second)) == 1.0


def test_a_bucket_that_refills_holds_only_until_it_has_a_little():
    quota = Quota("requests")
    for remaining in (500, 400, 300):
        quota.update(openai(600, remaining, f"{(600 - remaining) / 10}s"), NOW, 0.0)
    assert quota.update(openai(600, 0, "1m0s"), NOW, 0.0) <= 1.0


def test_of_several_models_limits_the_highest_counts_while_it_is_fresh():
    quota = Quota("requests")
    quota.update(openai(5000, 4999, "12ms"), NOW, 0.0)
    quota.update(openai(500, 499, "120ms"), NOW, 30.0)
    assert quota.limit(59.0) == 5000
    assert quota.limit(61.0) == 500
    assert quota.limit(1000.0) == 500


def report(quota):
    return {"slots": 1, "in_flight": 0, "ok": 1, "quota": quota}


def test_a_told_limit_is_a_ceiling_unless_the_config_has_a_lower_one():
    account = Account("acc")
    account.set_limits([Limits(8, 8)])
    assert account.rate(0.0) is None
    account.observe("w", report(openai(600, 599, "100ms")), NOW, 0.0)
    assert account.rate(0.0) == 10.0
    account.set_limits([Limits(8, 8, rpm=300.0), Limits(8, 8, rpm=900.0)])
    assert account.rate(0.0) == 5.0
    account.daemons = 2
    account.set_limits([Limits(8, 8)])
    assert account.rate(0.0) == 5.0


def test_nothing_remaining_holds_the_account():
    account = Account("acc")
    account.observe("w", report(openai(600, 0, "5s")), NOW, 100.0)
    account.observe("w", report(openai(600, 0, "4s")), NOW + 1, 101.0)
    assert account.is_held(104.9)
    assert not account.is_held(105.1)
    assert account.hold_until == NOW + 5
