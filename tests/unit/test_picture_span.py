"""Where columns stand: pauses are seen, long ones are cut short."""

import pytest
from picture_kit import T, answer, attempt, series

from batch_inferd.exports.picture.series import Series
from batch_inferd.exports.picture.span import LEAST, MOST, fit

LEFT, WIDTH, CUT = 70.0, 866.0, 34.0


def laid_out(made):
    return fit(made, LEFT, WIDTH, CUT)


def steady(begin, end, per_second=10, ms=200):
    return [answer(T + begin + n / per_second, ms) for n in range(round((end - begin) * per_second))]


def test_a_steady_run_is_one_part_from_its_first_call_on():
    made = series(*steady(1, 61, ms=1000))
    span = laid_out(made)
    (part,) = span.parts
    assert (span.idle, span.cuts) == ([], [])
    assert part.first * made.width == pytest.approx(T, abs=made.width)
    assert part.end * made.width == pytest.approx(T + 61, abs=made.width)
    assert span.columns <= MOST
    assert span.begin(0) == LEFT
    assert span.end(0) == pytest.approx(LEFT + WIDTH)


def test_a_pause_is_hatched_and_as_long_as_it_was():
    made = series(*steady(0, 100), *steady(140, 240))
    span = laid_out(made)
    assert len(span.parts) == 1
    (idle,) = span.idle
    assert idle.seconds == pytest.approx(40 - 0.1, abs=0.01), "from the last answer to the next call"
    assert (idle.end - idle.first) * made.width == pytest.approx(40, abs=2 * made.width)
    assert (span.x(idle.end) - span.x(idle.first)) / WIDTH == pytest.approx(40 / 240, abs=0.02)


def test_a_long_call_is_no_pause():
    events = [*steady(0, 100), *steady(140, 240)]
    assert laid_out(series(*events, answer(T + 150, 60_000))).idle == []


def test_time_in_a_batch_is_no_pause():
    span = laid_out(series(*(answer(T + 7200 + n / 100, 7_000_000, "batch") for n in range(500))))
    assert (len(span.parts), span.idle) == (1, [])


def test_a_retry_days_later_stands_beside_the_run():
    made = series(*steady(0, 600), *steady(3 * 86_400, 3 * 86_400 + 60))
    span = laid_out(made)
    first, second = span.parts
    (cut,) = span.cuts
    assert cut.seconds == pytest.approx(3 * 86_400 - 600, abs=1)
    assert (first.end, second.first) == (cut.first, cut.end)
    assert span.begin(1) - span.end(0) == pytest.approx(CUT)
    assert span.end(1) == pytest.approx(LEFT + WIDTH)
    assert first.columns > 8 * second.columns > 0
    assert span.x(second.first) == pytest.approx(span.begin(1))
    assert span.x(second.end) == pytest.approx(span.end(1))


def test_many_nights_are_shown_not_cut():
    made = series(*(event for day in range(9) for event in steady(day * 86_400, day * 86_400 + 400, 1)))
    span = laid_out(made)
    assert (len(span.parts), len(span.idle)) == (1, 8)
    assert span.columns <= MOST


def test_few_events_get_few_columns():
    made = series(*steady(0, 60, 1))
    assert laid_out(made).columns <= 16
    assert made.whole().events == 60


def test_one_event_is_no_wall():
    span = laid_out(series(attempt(T)))
    assert span.columns == 1
    assert span.unit == pytest.approx(WIDTH / LEAST)


def test_a_clock_that_was_wrong_is_beside_the_run():
    made = series(*steady(0, 100), answer(1.0))
    span = laid_out(made)
    assert len(span.parts) == 2
    assert made.width <= 2


@pytest.mark.parametrize("most", [1, 2, 512])
def test_columns_of_all_ages(most):
    made = Series(most)
    for day in range(2000):
        made.add(answer(T + day * 86_400 * (1 + day % 7)))
    span = laid_out(made)
    assert 1 <= span.columns <= MOST
    edges = [edge for at in range(len(span.parts)) for edge in (span.begin(at), span.end(at))]
    assert edges == sorted(edges)
    assert edges[-1] <= LEFT + WIDTH + 0.01
