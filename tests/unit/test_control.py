"""What is learnt depends on the time that has passed, not on how often the workers report."""

import pytest

from batch_inferd.scheduling.control import Control

PER_S = 20  # calls that are answered
WINDOW = 40


def learnt(every_s: float, workers: int = 1) -> int:
    """The window a minute after a first 429, with reports of each worker so far apart."""
    control, now = Control(), 100.0
    control.set_bounds(WINDOW, 10_000)

    def seen(name: str, **counts: int) -> None:
        flying = control.window // workers
        calls = round(PER_S * every_s / workers)
        usual = {"sent": calls, "ok": calls, "full": calls, "peak_in_flight": flying, "in_flight": flying}
        control.observe(name, usual | {"backlog": 9, "cut": control.cuts} | counts, now, held=False)

    names = [f"w{n}" for n in range(workers)]
    for name in names:
        seen(name)
    now += 0.1
    seen("w0", throttled=1, fresh=1, flying=control.window // workers)
    end = now + 60.0
    while now < end:
        now += every_s / workers
        names.append(names.pop(0))
        seen(names[0])
    return control.window


@pytest.mark.parametrize(("every_s", "workers"), [(0.4, 4), (1.0, 1), (4.0, 1)])
def test_the_window_grows_by_the_clock(every_s, workers):
    assert learnt(every_s, workers) == pytest.approx(learnt(0.1), rel=0.25)


def test_a_pause_is_no_time():
    control = Control()
    control.set_bounds(8, 1000)
    control.observe("w", {"sent": 8, "ok": 8, "peak_in_flight": 8, "in_flight": 0}, 100.0, held=False)
    before = control.window
    control.observe("w", {"sent": 8, "ok": 8, "peak_in_flight": 8, "in_flight": 0}, 900.0, held=False)
    assert control.window <= 1.2 * before
