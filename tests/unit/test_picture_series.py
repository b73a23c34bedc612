"""Columns of time: nothing is lost when they are widened, and they stay few."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_kit import T, answer, attempt, failure, missing, series

from batch_inferd.exports.picture.series import FINEST_S, Series

TIMES = st.floats(0, 4e9, allow_nan=False) | st.floats(T, T + 100)
EVENTS = st.one_of(
    st.builds(answer, TIMES, st.integers(0, 10**7), st.sampled_from(["online", "batch"])),
    st.builds(attempt, TIMES, st.sampled_from(["server", "timeout"])),
    st.builds(failure, TIMES, st.sampled_from(["server", "bad_request"])),
    st.builds(missing, TIMES),
)


@given(st.lists(EVENTS, max_size=60), st.integers(1, 8))
def test_any_events_in_few_columns(events, most):
    made = Series(most)
    for event in events:
        made.add(event)
    assert len(made.columns) <= most
    whole = made.whole()
    assert whole.events == len(events)
    fine = series(*events).whole()
    assert (whole.answers, whole.failed, whole.ended) == (fine.answers, fine.failed, fine.ended)
    assert whole.latencies().to_json() == fine.latencies().to_json()
    assert (whole.since, whole.until) == (fine.since, fine.until)
    for number, column in made.columns.items():
        assert number * made.width <= column.until < (number + 1) * made.width


def test_what_stands_in_a_column():
    made = series(
        answer(T, 300), answer(T + 0.1, 100), answer(T, 90_000, "batch"), attempt(T), failure(T), missing(T)
    )
    ((number, column),) = made.columns.items()
    assert number == T / FINEST_S
    assert column.answers == {"online": 2, "batch": 1}
    assert column.latencies().count == 2, "the age of a batch is no latency"
    assert column.latencies().percentile(1) == 300
    assert (column.failed, column.ended) == ({"server": 1}, {"bad_request": 1, "missing": 1})
    assert (column.since, column.until) == (T - 90, T + 0.1)


def test_the_order_of_journals_does_not_matter():
    events = [answer(T + n * 7 % 100, n) for n in range(500)]
    random.Random(1).shuffle(events)
    shuffled, ordered = series(*events), series(*sorted(events, key=lambda event: event.t))
    assert shuffled.columns.keys() == ordered.columns.keys()
    assert all(column.events == ordered.columns[n].events for n, column in shuffled.columns.items())


@pytest.mark.parametrize("t", [-5.0, 1e300])
def test_a_clock_that_was_wrong(t):
    made = series(answer(t, 1000), answer(T))
    assert made.whole().events == 2
    assert len(made.columns) == 2, "time in which nothing happened takes no room"
