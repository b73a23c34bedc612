"""The pool of worker processes, with processes that only pretend."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.scheduling import pool as module
from batch_inferd.scheduling.pool import Layout, Pool
from batch_inferd.scheduling.worker_process import WorkerProcess
from batch_inferd.seams.events import Events


class Clock:
    """A time that the test moves."""

    def __init__(self):
        self.t = 100.0

    def now(self):
        return self.t

    def monotonic(self):
        return self.t

    async def sleep(self, seconds):
        self.t += seconds


class Pretender(WorkerProcess):
    """No process: what it is sent is remembered, and `says` and `dies` are its part."""

    refuse = None  # the next start fails with this errno
    pids = 1000

    async def start(self):
        if Pretender.refuse is not None:
            number, Pretender.refuse = Pretender.refuse, None
            raise OSError(number, "refused")
        Pretender.pids += 1
        self.pid = Pretender.pids
        self.sent = []
        self._greet({"version": module_version()})

    def listen(self, *listeners):
        self._on_message, self._on_seat_ended, self._on_exit = listeners

    def send(self, method, params):
        self.sent.append((method, params))

    def kill(self):
        pass

    def says(self, method, **params):
        self._hear(method, params)

    def dies(self):
        self.exited.set()
        self._on_exit(self)

    async def stop(self, mode, grace_s):
        self._asked_to_end = True
        self.send("shutdown", {"mode": mode})
        self.dies()


def module_version():
    from batch_infer.version import __version__

    return __version__


class Listener:
    def __init__(self):
        self.heard = []
        self.gone = []
        self.chunks = {}
        self.wakes = 0

    def on_message(self, seat, method, params):
        self.heard.append((seat.name, method))

    def on_seat_gone(self, seat):
        self.gone.append(seat.name)
        return self.chunks.pop(seat.name, 0)

    def wake(self):
        self.wakes += 1


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def pool(tmp_path, clock, listener, monkeypatch):
    monkeypatch.setattr(module, "WorkerProcess", Pretender)
    Pretender.refuse = None
    return Pool(tmp_path, clock, Events(), listener)


async def size(pool, processes, threads=1, *, busy=False):
    await pool.size(Layout(processes, threads), busy=busy)


def numbers(pool):
    """The seats of each process that may be given chunks."""
    return [[seat.number for seat in process.seats if seat.alive] for process in pool.processes]


@pytest.mark.parametrize(
    ("mode", "layout"),
    [("asyncio", (1, 1)), ("threading", (1, 5)), ("multiprocessing", (5, 1))],
)
def test_what_a_mode_wants(mode, layout):
    processes = 1 if mode == "asyncio" else 5
    assert Layout.of({"mode": mode, "processes": processes}) == layout


@given(st.lists(st.builds(Layout, st.integers(1, 64), st.integers(1, 64))))
def test_the_largest_is_enough_for_each(layouts):
    largest = Layout.largest(layouts)
    assert all(largest >= (layout.processes, 0) for layout in layouts)
    assert all(largest.threads >= layout.threads for layout in layouts)
    assert layouts or largest == (0, 0)


async def test_it_grows_and_shrinks(pool):
    await size(pool, 3)
    assert numbers(pool) == [[0], [0], [0]]
    first, second, third = pool.processes
    await size(pool, 1)
    assert numbers(pool) == [[0], [], []]
    assert (second.sent, third.sent) == ([("shutdown", {"mode": "drain"})],) * 2
    await size(pool, 1)
    assert len(second.sent) == 1
    assert [seat.process for seat in pool.leaving] == [second, third]
    await size(pool, 2)  # those that are ending do not count
    assert len(pool.processes) == 4
    for process in (second, third):
        process.dies()
    assert numbers(pool) == [[0], [0]]
    assert pool.failed_spawn is None
    assert first in pool.processes


async def test_seats_of_a_process_grow_and_shrink(pool, listener):
    await size(pool, 1, 3)
    (process,) = pool.processes
    assert process.sent == [("seats", {"open": [1, 2]})]
    await size(pool, 1, 1)
    assert process.sent[1:] == [("shutdown", {"mode": "drain", "seat": n}) for n in (1, 2)]
    assert numbers(pool) == [[0]]
    assert [seat.number for seat in pool.leaving] == [1, 2]
    process.says("released", seat=2)
    process.says("ended", seat=2)
    assert listener.heard == [(f"{process.name}.2", "released")]
    assert listener.gone == [f"{process.name}.2"]
    process.says("sealed", seat=2)  # nobody is there any more
    assert len(listener.heard) == 1
    await size(pool, 1, 2)  # a number is never used again
    assert process.sent[-1] == ("seats", {"open": [3]})
    assert numbers(pool) == [[0, 3]]


async def test_only_the_first_process_has_several_seats(pool):
    await size(pool, 3, 2)
    assert numbers(pool) == [[0, 1], [0], [0]]
    pool.processes[0].dies()
    pool._respawn_at = 0
    await size(pool, 3, 2)
    assert numbers(pool) == [[0, 1], [0], [0]]


async def test_messages_go_to_their_seat(pool, listener):
    await size(pool, 2, 2)
    one, two = pool.processes
    one.says("report", seat=1)
    one.says("report")
    two.says("log")
    one.says("report", seat=9)
    assert listener.heard == [
        (f"{one.name}.1", "report"),
        (f"{one.name}.0", "report"),
        (f"{two.name}.0", "log"),
    ]
    one.seats[1].send("plan", {"a": 1})
    one.seats[0].send("plan", {"a": 1})
    assert one.sent[-2:] == [("plan", {"a": 1, "seat": 1}), ("plan", {"a": 1})]


async def test_a_process_that_somebody_else_ends_is_replaced_without_a_word(pool, listener):
    await size(pool, 2)
    first = pool.processes[0]
    first.says("stopping")
    assert numbers(pool) == [[], [0]]
    assert listener.heard == []
    await size(pool, 2)
    assert numbers(pool) == [[], [0], [0]]
    first.dies()
    assert pool.failed_spawn is None


async def test_a_death_is_told_and_answered_with_growing_waits(pool, clock, listener):
    await size(pool, 1)
    waits = []
    for _ in range(5):
        (process,) = pool.processes
        listener.chunks[f"{process.name}.0"] = 2
        process.dies()
        assert str(pool.failed_spawn) == (
            f"worker {process.pid} ended unexpectedly with 2 chunks in its hands"
        )
        began = clock.t
        while not pool.processes:
            await size(pool, 1)
            clock.t += 0.5
        waits.append(clock.t - began - 0.5)
    assert waits == [0, 1, 5, 30, 30]
    pool.processes[0].says("report")
    assert pool.failed_spawn is None
    pool.processes[0].dies()
    await size(pool, 1)
    assert pool.processes  # at once again


async def test_the_others_do_not_speak_for_one_that_dies_again_and_again(pool, clock):
    await size(pool, 2)
    healthy, dying = pool.processes
    for wait in (0, 1, 5):
        clock.t += 0.1
        dying.dies()
        healthy.says("report")  # it was there before: it proves nothing
        assert pool.failed_spawn is not None
        if wait:
            clock.t += wait - 0.01
            await size(pool, 2)
            assert pool.processes == [healthy]
            clock.t += 0.02
        await size(pool, 2)
        _, dying = pool.processes


async def test_a_start_that_fails_is_told(pool, clock):
    Pretender.refuse = errno.EAGAIN
    await size(pool, 2)
    assert pool.processes == []
    assert str(pool.failed_spawn).startswith("a worker could not be started")
    await size(pool, 2)
    assert len(pool.processes) == 2


async def test_idle_workers_end_after_a_minute(pool, clock):
    await size(pool, 2)
    clock.t += 50
    await size(pool, 0, busy=True)
    clock.t += 50
    await size(pool, 0, 0)
    assert numbers(pool) == [[0], [0]]
    clock.t += 11
    await size(pool, 0, 0)
    await pool._background.wait()
    assert pool.processes == []
    assert pool.failed_spawn is None


async def test_the_end_of_all(pool):
    await size(pool, 2, 2)
    processes = tuple(pool.processes)
    await pool.stop("drain", 1.0)
    assert pool.processes == []
    assert all(process.sent[-1] == ("shutdown", {"mode": "drain"}) for process in processes)


async def test_another_build_is_told_and_gets_nothing(pool, listener, monkeypatch):
    told = []
    pool._events.subscribe(lambda name, fields: told.append((name, fields)))
    monkeypatch.setitem(globals(), "module_version", lambda: "9.9.9")
    await size(pool, 1)
    await pool._background.wait()
    assert told == [("program.replaced", {"build": "9.9.9"})]
    assert pool.seats == []
    assert listener.wakes


async def test_one_that_was_started_ahead_is_one_of_them(pool, listener):
    ahead = Pretender(pool._folder)
    await ahead.start()
    pool.take(ahead)
    await size(pool, 1)
    assert pool.processes == [ahead]
    assert [seat.process for seat in pool.seats] == [ahead]
    ahead.says("report", seat=0)
    assert listener.heard


async def test_one_of_another_build_that_was_started_ahead_leaves_the_word_to_the_next(pool, monkeypatch):
    told = []
    pool._events.subscribe(lambda name, fields: told.append((name, fields)))
    monkeypatch.setitem(globals(), "module_version", lambda: "9.9.9")
    ahead = Pretender(pool._folder)
    await ahead.start()
    pool.take(ahead)
    await pool._background.wait()
    assert (told, ahead.sent) == ([], [("shutdown", {"mode": "drain"})])
    await size(pool, 1)
    await pool._background.wait()
    assert told == [("program.replaced", {"build": "9.9.9"})]
