"""A purse by itself, and what each outcome of a call costs."""

from types import SimpleNamespace

import pytest

from batch_inferd.backends.online import Outcome
from batch_inferd.backends.reply import Usage
from batch_inferd.backends.transport import HttpReply, NotSent
from batch_inferd.failures import Action, Verdict
from batch_inferd.money.budget import BudgetPlan, NanoRates
from batch_inferd.worker.purse import Purse
from batch_inferd.worker.runner import _cost


class Told(list):
    """What a purse said, and how often it woke the worker."""

    woken = 0

    def wake(self):
        self.woken += 1

    @property
    def last(self):
        return {key: value for key, value in self[-1].items() if value and key != "purse"}


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def purse(told):
    return Purse(1, told.append, told.wake)


def test_an_empty_one_asks_for_what_its_first_call_needs(purse, told):
    assert not purse.commit(10)
    assert purse.starved == 10
    assert told.last == {"need": 10, "want": 10, "idle": True}
    purse.grant(10)
    assert (purse.starved, told.woken) == (0, 1)
    assert purse.commit(10)


def test_what_was_not_spent_is_there_for_the_next_call(purse, told):
    purse.grant(20)
    assert purse.commit(15)
    assert not purse.commit(15)
    assert told.last == {"granted": 20, "need": 10, "want": 30}
    assert not purse.commit(15)
    assert len(told) == 2, "it asks once"
    purse.settle(15, 4)
    assert (purse.starved, told.woken) == (0, 1)
    assert purse.free == 16


def test_with_nothing_in_flight_it_gives_back_what_does_not_help(purse, told):
    purse.grant(20)
    assert purse.commit(15)
    assert not purse.commit(15)
    purse.settle(15, 8)
    assert told.last == {"granted": 20, "spent": 8, "returned": 12, "need": 15, "want": 15, "idle": True}
    assert (purse.free, purse.starved, told.woken) == (0, 15, 0)
    purse.grant(35)
    assert (purse.free, purse.starved) == (15, 0)


def test_a_grant_that_was_asked_for_before_is_given_back_too(purse, told):
    assert not purse.commit(50)
    purse.grant(30)
    assert purse.starved == 50
    assert told.last == {"granted": 30, "returned": 30, "need": 50, "want": 50, "idle": True}


def test_more_is_asked_for_before_it_runs_out(purse, told):
    purse.grant(100)
    for _ in range(9):
        assert purse.commit(10)
    assert told.last == {"granted": 100, "want": 30}
    assert len(told) == 1
    purse.grant(130)
    assert purse.commit(10)


def test_a_call_above_its_bound_is_made_good(purse, told):
    purse.grant(10)
    assert purse.commit(10)
    purse.settle(10, 25)
    assert purse.free == -15
    assert not purse.commit(10)
    assert told.last == {"granted": 10, "spent": 25, "need": 25, "want": 25, "idle": True}
    purse.grant(35)
    assert purse.starved == 0


def test_its_end(purse, told):
    purse.grant(20)
    assert purse.commit(15)
    purse.settle(15, 5)
    purse.close()
    assert told.last == {"granted": 20, "spent": 5, "closed": True}


REPLY = {200: HttpReply(200, {}, b"{}")} | {n: HttpReply(n, {}, b"") for n in (302, 400, 429, 500, 504)}
KNOWN, UNKNOWN = Usage(100, 10), Usage(100, None)


@pytest.mark.parametrize(
    ("action", "reply", "usage", "cost"),
    [
        (Action.ANSWER, REPLY[200], KNOWN, 120),
        (Action.ANSWER, REPLY[200], Usage(100, 10, 50), 70),
        (Action.ANSWER, REPLY[200], UNKNOWN, 999),
        (Action.END, REPLY[200], KNOWN, 120),
        (Action.RETRY, REPLY[200], UNKNOWN, 999),
        (Action.RETRY, None, UNKNOWN, 999),
        (Action.RETRY, REPLY[504], UNKNOWN, 999),
        (Action.RETRY, REPLY[500], UNKNOWN, 0),
        (Action.RETRY, REPLY[302], UNKNOWN, 0),
        (Action.END, REPLY[400], UNKNOWN, 0),
        (Action.THROTTLE, REPLY[429], UNKNOWN, 0),
        (Action.NETWORK, None, UNKNOWN, 0),
    ],
)
def test_what_a_call_has_cost(action, reply, usage, cost):
    plan = BudgetPlan(NanoRates(1_000_000, 2_000_000, 0), 16, 765)
    attempt = SimpleNamespace(prepared=SimpleNamespace(budget=plan), worst=999)
    network = NotSent("refused", "", "") if action is Action.NETWORK else None
    outcome = Outcome(Verdict(action, usage=usage), reply, network, 1)
    assert _cost(attempt, outcome, sent=True) == cost


@pytest.mark.parametrize(("sent", "cost"), [(True, 999), (False, 0)])
def test_a_call_that_was_given_up(sent, cost):
    plan = BudgetPlan(NanoRates(1, 1, 1), 16, 765)
    attempt = SimpleNamespace(prepared=SimpleNamespace(budget=plan), worst=999)
    assert _cost(attempt, None, sent=sent) == cost
