"""Purses and the ledger together: whatever is sent, lost or killed, the bill never passes the budget."""

import json
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batch_inferd.money.ledger import Ledger
from batch_inferd.worker.purse import Purse

LIMIT = 1000
SEATS = ("a", "b", "c")


class Seat:
    """A worker's side, with the messages that are under way in both directions."""

    def __init__(self, name, number):
        self.name = name
        self.key = f"{name}/{number}"
        self.to_daemon = deque()
        self.to_worker = deque()
        self.flying = []  # what each call costs at most
        self.woken = 0
        self.purse = Purse(number, self.to_daemon.append, self.wake)

    def wake(self):
        self.woken += 1


class Budgets(RuleBasedStateMachine):
    """Three workers, a daemon, and a service that bills up to a call's bound, answered or not."""

    def __init__(self):
        super().__init__()
        self.number = 0
        self.billed = 0
        self.ledger = Ledger()
        self.disk = json.dumps(self.ledger.to_json())
        self.seats = {}

    def seat(self, name):
        if name not in self.seats:
            self.number += 1
            self.seats[name] = Seat(name, self.number)
        return self.seats[name]

    @rule(name=st.sampled_from(SEATS), worsts=st.lists(st.integers(1, 300), min_size=1, max_size=5))
    def calls(self, name, worsts):
        seat = self.seat(name)
        for worst in worsts:
            if not seat.purse.starved and seat.purse.commit(worst):
                seat.flying.append(worst)

    @rule(name=st.sampled_from(SEATS), worst=st.integers(1, 300))
    def call_that_waits_for_its_money(self, name, worst):
        seat = self.seat(name)
        for _ in range(3):
            if seat.purse.commit(worst):
                seat.flying.append(worst)
                return
            self.exchange()

    @rule()
    def exchange(self):
        for seat in self.seats.values():
            while seat.to_daemon:
                self.ledger.hear(seat.key, seat.name, seat.to_daemon.popleft())
        self.serve(full_disk=False, crash="")
        for seat in self.seats.values():
            while seat.to_worker:
                seat.purse.grant(seat.to_worker.popleft())

    @precondition(lambda self: any(seat.flying for seat in self.seats.values()))
    @rule(data=st.data())
    def answer(self, data):
        seat = data.draw(st.sampled_from([seat for seat in self.seats.values() if seat.flying]))
        worst = seat.flying.pop(data.draw(st.integers(0, len(seat.flying) - 1)))
        cost = data.draw(st.integers(0, worst))
        self.billed += cost
        seat.purse.settle(worst, data.draw(st.sampled_from([cost, worst])))  # it may not have told

    @rule(name=st.sampled_from(SEATS))
    def close(self, name):
        seat = self.seats.get(name)
        if seat is not None and not seat.flying:
            seat.purse.close()
            while seat.to_daemon:
                self.ledger.hear(seat.key, name, seat.to_daemon.popleft())
            del self.seats[name]

    @rule(name=st.sampled_from(SEATS))
    def daemon_hears(self, name):
        seat = self.seats.get(name)
        if seat is not None and seat.to_daemon:
            self.ledger.hear(seat.key, name, seat.to_daemon.popleft())

    @rule(name=st.sampled_from(SEATS))
    def worker_hears(self, name):
        seat = self.seats.get(name)
        if seat is not None and seat.to_worker:
            seat.purse.grant(seat.to_worker.popleft())

    @rule(full_disk=st.booleans(), crash=st.sampled_from([""] * 8 + ["before", "after"]))
    def serve(self, full_disk, crash):
        self.ledger.decide(LIMIT, len(self.seats))
        if crash == "before":
            self.daemon_dies()
            return
        if full_disk:
            self.ledger.break_promises()
            return
        self.disk = json.dumps(self.ledger.to_json())
        if crash == "after":
            self.daemon_dies()
            return
        by_key = {seat.key: seat for seat in self.seats.values()}
        for key, granted in self.ledger.told():
            by_key[key].to_worker.append(granted)

    @rule(name=st.sampled_from(SEATS))
    def worker_dies(self, name):
        seat = self.seats.pop(name, None)
        if seat is not None:
            while seat.to_daemon:
                self.ledger.hear(seat.key, name, seat.to_daemon.popleft())
            self.ledger.lose(name)
            self.billed += sum(seat.flying)  # the service finishes, and nobody hears of it

    @rule(often=st.integers(0, 2))
    def daemon_dies(self, often=0):
        if often:
            return
        for seat in self.seats.values():
            self.billed += sum(seat.flying)
        self.seats.clear()
        self.ledger = Ledger()
        self.ledger.load(json.loads(self.disk))

    @invariant()
    def holds(self):
        flying = sum(sum(seat.flying) for seat in self.seats.values())
        assert self.billed + flying <= self.ledger.total <= LIMIT

    @invariant()
    def rests_only_when_nothing_fits(self):
        needed = self.ledger.next_call()
        if needed is not None and needed > LIMIT - self.ledger.total:
            seats = [seat for seat in self.seats.values() if seat.key in self.ledger.held]
            spent = self.ledger.spent + sum(one.spent for one in self.ledger.held.values())
            for seat in seats:
                assert not seat.flying
                assert seat.purse.starved > LIMIT - spent

    def teardown(self):
        """All calls end: then everything that was not spent can be used, or the rest is too small."""
        for seat in self.seats.values():
            while seat.flying:
                seat.purse.settle(seat.flying.pop(), 0)
        for _ in range(20):
            for seat in self.seats.values():
                while seat.to_daemon or seat.to_worker:
                    if seat.to_worker:
                        seat.purse.grant(seat.to_worker.popleft())
                    else:
                        self.ledger.hear(seat.key, seat.name, seat.to_daemon.popleft())
            self.serve(full_disk=False, crash="")
        starved = [seat for seat in self.seats.values() if seat.purse.starved]
        if starved and len(starved) == len(self.ledger.held):
            assert self.ledger.next_call() is not None, "it would wait for ever"
        for seat in starved:
            assert seat.purse.starved > LIMIT - self.ledger.total
            assert seat.purse.free <= 0, "it keeps what others may need"


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


def test_a_slice_serves_many_calls():
    ledger = Ledger()
    said = {"spent": 0, "returned": 0, "granted": 0, "need": 1, "want": 1, "idle": True, "closed": False}
    ledger.hear("a/1", "a", said)
    assert ledger.decide(64_000, 1)
    assert ledger.told() == [("a/1", 1000)]


def test_a_batch_counts_until_it_is_charged():
    ledger = Ledger()
    ledger.batches[1] = 60
    ledger.charged = 30
    ledger.begin(40)
    assert ledger.total == 100
    del ledger.batches[1]
    ledger.charged += 20
    assert ledger.total == 60


def test_what_a_retired_purse_says_is_not_counted_again():
    ledger = Ledger()
    said = {"spent": 7, "returned": 0, "granted": 9, "need": 0, "want": 0, "idle": False, "closed": True}
    assert not ledger.hear("a/1", "a", said)
    assert not ledger.hear("a/1", "a", said | {"closed": False})
    assert ledger.total == 0
