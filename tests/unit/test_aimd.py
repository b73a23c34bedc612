"""The concurrency window: growth only in use, one cut an epoch, bounds always."""

from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.scheduling.aimd import EPOCH_S, Aimd


def run(window: Aimd, epochs: int, **seen) -> None:
    start = getattr(window, "t", 0.0)
    for n in range(epochs):
        window.observe(now=start + n * EPOCH_S, **({"ok": 10, "throttled": 0, "peak": window.window} | seen))
    window.t = start + epochs * EPOCH_S


def test_slow_start_reaches_the_maximum():
    window = Aimd(64, 1024)
    run(window, 10)
    assert window.window == 1024


def test_an_unused_window_does_not_grow():
    window = Aimd(64, 1024)
    run(window, 10, peak=3)
    assert window.window == 64


def test_a_burst_of_429s_is_one_cut():
    window = Aimd(100, 1024)
    for n in range(50):
        window.observe(ok=0, throttled=1, peak=100, now=n / 100)
    assert window.window == 70


def test_growth_after_a_cut_is_gentle():
    window = Aimd(100, 1024)
    window.observe(ok=0, throttled=1, peak=100, now=0)
    before = window.window
    window.observe(ok=5, throttled=0, peak=before, now=EPOCH_S)
    assert before < window.window <= before * 1.06


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5), st.integers(0, 300), st.floats(0, 1))))
def test_it_stays_within_bounds(steps):
    window, now = Aimd(8, 200), 0.0
    for ok, throttled, peak, wait in steps:
        now += wait
        window.observe(ok=ok, throttled=throttled, peak=peak, now=now)
        assert 1 <= window.window <= 200
