"""The seats of a worker process: threads that share a pipe and nothing else, and end together or alone."""

import asyncio
import signal
import threading

import pytest
from worker_kit import WorkerDriver, ask, make_plan

from batch_inferd.loops import loop_factory
from batch_inferd.worker import seats as module
from batch_inferd.worker.guard import Guards
from batch_inferd.worker.pipe import Outbox
from batch_inferd.worker.seats import Seats


class Driver(WorkerDriver):
    """Speaks to the seat of the number `seat`, unless told otherwise."""

    seat = 0

    def send(self, method, **params):
        own = {"seat": self.seat} if self.seat else {}
        super().send(method, **(own | params))


def begin(worker, service, folder, seat, count=30):
    """A lease of `count` records in the hands of a seat."""
    lease = folder.lease(folder.add(ask(f"seat {seat} record {n}") for n in range(count)))
    worker.seat = seat
    try:
        return worker.begin(make_plan(service.base_url), lease, slots=4)
    finally:
        worker.seat = 0


def of_seat(number):
    return lambda params: params.get("seat", 0) == number


def test_each_seat_seals_its_own(tmp_path, service, folder):
    with Driver(tmp_path) as worker:
        worker.send("seats", open=[1, 2])
        leases = {seat: begin(worker, service, folder, seat) for seat in (0, 1, 2)}
        sealed = {}
        while len(sealed) < 3:
            params = worker.sealed()
            sealed[params.get("seat", 0)] = params["lease"]
        assert sealed == leases
        worker.send("shutdown", mode="drain")
        assert worker.wait_end() == 0
        assert sorted(params.get("seat", 0) for params in worker.all("ended")) == [0, 1, 2]
    assert service.summary().billed == 90


def test_one_seat_ends_and_the_others_go_on(tmp_path, service, folder):
    service.control(latency_ms=[20, 60])
    with Driver(tmp_path) as worker:
        worker.send("seats", open=[1])
        begin(worker, service, folder, 0, 200)
        lease = begin(worker, service, folder, 1, 200)
        worker.wait_for("report", lambda params: params.get("seat") == 1 and params["leases"])
        worker.send("shutdown", mode="drain", seat=1)
        released = worker.wait_for("released")
        assert (released["lease"], released["reason"], released["seat"]) == (lease, "drained", 1)
        worker.wait_for("ended", of_seat(1))
        service.control(latency_ms=0)
        assert "seat" not in worker.sealed()
        worker.send("seats", open=[2])
        begin(worker, service, folder, 2)
        assert worker.sealed()["seat"] == 2
        worker.send("shutdown", mode="drain", seat=0)
        worker.wait_for("ended", of_seat(0))
        assert worker.process.poll() is None
        worker.send("shutdown", mode="drain", seat=2)
        assert worker.wait_end() == 0


def test_sigterm_drains_all_seats(tmp_path, service, folder):
    service.control(latency_ms=[20, 60])
    with Driver(tmp_path) as worker:
        worker.send("seats", open=[1, 2])
        for seat in (0, 1, 2):
            begin(worker, service, folder, seat, 300)
        worker.wait_for("report", lambda params: params.get("seat") == 2 and params["leases"])
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait_end() == 0
        for name in ("stopping", "released", "ended"):
            assert sorted(params.get("seat", 0) for params in worker.all(name)) == [0, 1, 2]
    answered = sum(len(folder.records("answer", chunk)) for chunk in (1, 2, 3))
    assert answered == service.summary().billed == service.summary().requests < 900


def test_a_message_for_a_seat_that_is_gone_is_dropped(tmp_path, service, folder):
    with Driver(tmp_path) as worker:
        worker.send("lease", nonsense=1, seat=7)
        begin(worker, service, folder, 0)
        worker.sealed()


class Recorded(Guards):
    """What would have ended the process."""

    def __init__(self):
        super().__init__()
        self.ended = threading.Event()
        self.status = None

    def exit(self, status=0):
        self.status = status
        self.ended.set()


def test_a_seat_that_fails_takes_the_process_with_it(monkeypatch):
    class Failing:
        def __init__(self, *_):
            pass

        async def run(self):
            raise RuntimeError("the loop dies")

    monkeypatch.setattr(module, "Worker", Failing)
    guards = Recorded()
    Seats(Outbox(-1, guards.exit), guards).open(0)
    assert guards.ended.wait(30)
    assert guards.status == module.FAILED


def test_a_signal_before_a_seat_is_there_reaches_it(monkeypatch):
    told = []

    class Idle:
        def __init__(self, *_):
            self.over = asyncio.Event()

        async def run(self):
            await self.over.wait()

        def terminate(self, mode):
            told.append(mode)
            self.over.set()

    monkeypatch.setattr(module, "Worker", Idle)
    guards = Recorded()
    seats = Seats(Outbox(-1, guards.exit), guards)
    seats.terminate("drain")
    seats.open(0)
    seats.wait()
    assert told == ["drain"]
    seats.open(1)  # it is over: there is none any more
    seats.wait()
    assert told == ["drain"]


def test_no_seat_writes_after_the_end(monkeypatch):
    ends = []
    monkeypatch.setattr("os._exit", ends.append)
    guards = Guards()
    first, second = guards.new(), guards.new()
    inside, leave = threading.Event(), threading.Event()

    def write():
        with first:
            inside.set()
            leave.wait(30)
            assert ends == []

    writer = threading.Thread(target=write)
    writer.start()
    inside.wait(30)
    ending = threading.Thread(target=guards.exit, args=(3,))
    ending.start()
    leave.set()
    ending.join(30)
    writer.join(30)
    assert ends == [3]
    for guard in (first, second):
        assert not guard._lock.acquire(blocking=False)


def test_a_disk_that_hangs_does_not_keep_the_process(monkeypatch):
    ends = []
    monkeypatch.setattr("os._exit", ends.append)
    monkeypatch.setattr("batch_inferd.worker.guard._PATIENCE_S", 0.01)
    guards = Guards()
    with guards.new(), guards.new():
        guards.exit()
    assert ends == [0]


def test_the_loop_is_that_of_uvloop_where_it_is():
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=loop_factory(), debug=True) as runner:
        assert isinstance(runner.get_loop(), uvloop.Loop)
        assert runner.run(asyncio.sleep(0, "ran")) == "ran"
