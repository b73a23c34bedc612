"""Times and values at the axes of a picture: round, local, and few."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.exports.picture import clockface, scale

SHANGHAI = timezone(timedelta(hours=8))


def at(*when, zone=UTC):
    return datetime(*when, tzinfo=zone).timestamp()


@pytest.fixture
def berlin(monkeypatch):
    """The machine's zone, with its summer time, without any zone files."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def labels(begin, end, step, zone=UTC):
    return [clockface.time_of_day(t, step, zone) for t in clockface.ticks(begin, end, step, zone)]


def test_ticks_are_round():
    begin = at(2026, 11, 22, 14, 3, 20)
    assert labels(begin, begin + 30, 10) == ["14:03:20", "14:03:30", "14:03:40", "14:03:50"]
    assert labels(begin, begin + 2000, 900) == ["14:15", "14:30"]
    assert labels(begin, begin + 2, 0.5)[:3] == ["14:03:20.0", "14:03:20.5", "14:03:21.0"]
    assert labels(begin, begin + 2 * 86_400, 86_400) == ["2026-11-23", "2026-11-24"]
    assert labels(begin, begin + 9, 10) == ["14:03:20"]
    assert labels(begin + 1, begin + 9, 10) == []


def test_ticks_are_local():
    begin = at(2026, 11, 22, 20, 30)
    assert labels(begin, begin + 4 * 3600, 7200, SHANGHAI) == ["06:00", "08:00"]
    (midnight,) = clockface.ticks(at(2026, 11, 22), at(2026, 11, 23), 86_400, SHANGHAI)
    assert midnight == at(2026, 11, 23, zone=SHANGHAI)
    assert clockface.offset(begin, SHANGHAI) == "UTC+08:00"
    assert clockface.offset(begin, timezone(-timedelta(hours=3, minutes=30))) == "UTC-03:30"


@pytest.mark.parametrize(
    ("day", "step", "expected"),
    [
        ((2026, 3, 29), 7200, ["00:00", "03:00", "04:00", "06:00"]),  # an hour is skipped
        ((2026, 10, 25), 3600, ["00:00", "01:00", "02:00", "03:00", "04:00", "05:00", "06:00"]),
        ((2026, 10, 24), 43_200, ["00:00", "12:00", "00:00"]),
    ],
)
def test_ticks_keep_to_clocks_that_are_turned(berlin, day, step, expected):
    begin = datetime(*day).timestamp()  # noqa: DTZ001  local time is meant
    hours = 6 if step < 43_200 else 30
    end = (datetime(*day) + timedelta(hours=hours)).timestamp()  # noqa: DTZ001
    assert labels(begin, end, step, None) == expected


def test_the_machines_zone_is_that_of_the_picture(berlin):
    assert clockface.moment(at(2026, 7, 1, 12)) == "2026-07-01 14:00:00"
    assert clockface.offset(at(2026, 7, 1, 12)) == "UTC+02:00"
    assert clockface.date(at(2026, 12, 31, 23, 30)) == "2027-01-01"


@given(st.floats(0, 2.5e11), st.floats(0.5, 3e9), st.integers(1, 12))
def test_any_span_has_few_ticks_in_order(begin, seconds, count):
    step = clockface.step_of(seconds / count)
    found = clockface.ticks(begin, begin + seconds, step, UTC)
    assert found == sorted(set(found))
    assert all(begin <= t <= begin + seconds for t in found)
    assert len(found) <= count + 1 or step == clockface.step_of(1e18)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.125, "0.125 s"), (8, "8 s"), (59.6, "1 min"), (303, "5 min 3 s"), (3600, "1 h"),
        (3999, "1 h 6 min"), (86_400 * 3 + 60, "3 d"), (86_400 * 3 + 14_400, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert clockface.duration(seconds) == text


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (25.8, [0, 10, 20, 30]),
        (1, [0, 0.5, 1]),
        (4, [0, 1, 2, 3, 4]),
        (1234, [0, 500, 1000, 1500]),
        (0, [0, 5e-10, 1e-9]),
    ],
)
def test_a_linear_scale(most, ticks):
    found = scale.linear(most)
    assert found.ticks == pytest.approx(ticks)
    assert (found.share(0), found.share(found.top)) == (0, 1)


def test_whole_numbers_only():
    assert scale.linear(1, 2, whole=True).ticks == [0, 1]
    assert scale.linear(3, 2, whole=True).ticks == [0, 2, 4]


def test_a_wide_range_is_logarithmic():
    assert not scale.durations(500, 5000).logarithmic
    found = scale.durations(300, 45_000)
    assert found.logarithmic
    assert found.ticks == [200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000]
    assert found.share(3162.3) == pytest.approx(0.5, abs=0.01)
    wide = scale.durations(1, 600_000)
    assert wide.ticks == [1, 10, 100, 1000, 10_000, 100_000, 1_000_000]


@given(st.integers(1, 10**8), st.integers(1, 10**8))
def test_any_latencies_are_on_the_scale(one, other):
    least, most = sorted((one, other))
    found = scale.durations(least, most)
    assert 0 <= found.share(least) <= found.share(most) <= 1 + 1e-9
    assert 2 <= len(found.ticks) <= 10
    assert found.ticks == sorted(found.ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7 ms"), (532.4, "532 ms"), (999.7, "1 s"), (2110, "2.11 s"), (90_000, "90 s")],
)
def test_milliseconds(value, text):
    assert scale.milliseconds(value) == text


def test_minutes_and_numbers():
    assert scale.milliseconds(1_200_000) == "20 min"
    assert [scale.number(one) for one in (0.5, 12, 18.26, 1234.4)] == ["0.5", "12", "18.3", "1,234"]
