"""A worker on one core at a time: what it does to its threads, and whom it obeys."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

from batch_inferd.worker import onecore

pytestmark = pytest.mark.skipif(
    not onecore.AVAILABLE or len(os.sched_getaffinity(0)) < 2, reason="it needs Linux and two cores"
)


@pytest.fixture
def other_thread():
    """The affinity of another thread, asked for in that thread."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield lambda: os.sched_getaffinity(thread.native_id or 0)
    end.set()
    thread.join()


@pytest.fixture(autouse=True)
def allowed():
    """What this process had; given back at the end."""
    before = os.sched_getaffinity(0)
    yield before
    for name in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # a thread that has just ended needs nothing back
            os.sched_setaffinity(int(name), before)


def test_all_threads_are_held_and_released(allowed, other_thread):
    cores = onecore.OneCore()
    cores.hold()
    held = os.sched_getaffinity(0)
    assert len(held) == 1
    assert held < allowed
    assert other_thread() == held
    cores.release()
    assert os.sched_getaffinity(0) == other_thread() == allowed


def test_whoever_places_the_process_is_obeyed(allowed):
    cores = onecore.OneCore()
    cores.hold()
    (held,) = os.sched_getaffinity(0)
    elsewhere = {min(allowed - {held})}
    os.sched_setaffinity(0, elsewhere)  # as taskset does
    cores.release()
    assert os.sched_getaffinity(0) == elsewhere
    cores.hold()
    cores.release()
    assert os.sched_getaffinity(0) == elsewhere
