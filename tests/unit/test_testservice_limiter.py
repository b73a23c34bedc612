"""The token bucket, against a clock that the test drives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.testing.errors import ApiError
from batch_inferd.testing.limiter import Limiter, duration


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_then_429_with_the_wait():
    time = Time()
    limiter = Limiter(2, time)
    assert limiter.take("k")["x-ratelimit-remaining-requests"] == "1"
    headers = limiter.take("k")
    assert headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }
    with pytest.raises(ApiError) as refused:
        limiter.take("k")
    assert refused.value.status == 429
    assert refused.value.headers["Retry-After"] == "30"
    assert refused.value.headers["x-ratelimit-remaining-requests"] == "0"


def test_each_key_has_its_own_bucket():
    limiter = Limiter(1, Time())
    limiter.take("a")
    limiter.take("b")
    with pytest.raises(ApiError):
        limiter.take("a")


@given(st.integers(1, 100_000), st.lists(st.floats(0, 5), max_size=50))
def test_who_waits_as_long_as_told_gets_in(rpm, pauses):
    time = Time()
    limiter = Limiter(rpm, time)
    for pause in pauses:
        time.now += pause
        try:
            limiter.take("k")
        except ApiError as refused:
            time.now += float(refused.headers["Retry-After"])
            limiter.take("k")


@given(st.integers(1, 600), st.lists(st.floats(0, 2), min_size=1, max_size=100))
def test_never_more_than_the_limit_and_what_was_refilled(rpm, pauses):
    time = Time()
    limiter = Limiter(rpm, time)
    begin, let_in = time.now, 0
    for pause in pauses:
        time.now += pause
        try:
            limiter.take("k")
            let_in += 1
        except ApiError:
            continue
    assert let_in <= rpm + (time.now - begin) * rpm / 60 + 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0061, "7ms"), (1, "1s"), (1.5, "1.5s"), (59.9999, "60s"), (60, "1m0s"), (3661, "61m1s")],
)
def test_durations_are_written_as_openai_does(seconds, text):
    assert duration(seconds) == text
