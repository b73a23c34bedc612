"""What an ended batch counts in its task's budget."""

import pytest

from batch_inferd.batches.charging import charge
from batch_inferd.batches.submission import Detail, MostTokens, Submission
from batch_inferd.money.budget import NanoRates

RATES = NanoRates(1_000_000, 1_000_000, 1_000_000)  # a token is one
WHOLE = 1000


def batch(results=None, **changes):
    detail = Detail("f", 1, 10, 1, "u", "m", 0, most=MostTokens(600, 400, 60, 40), end_state="completed")
    for name, value in changes.items():
        setattr(detail, name, value)
    detail.results = None if results is None else {"tokens_in": 50, "tokens_out": 50} | results
    return Submission(1, "t", "collected", "b", "f", 0.0, detail, {1: [(1, 10)]})


@pytest.mark.parametrize(
    ("results", "changes", "cost"),
    [
        ({"answered": 10}, {"completed": 10}, 100),
        ({"answered": 10, "tokens_unknown": 2}, {"completed": 10}, 300),
        ({"answered": 10, "tokens_unknown": 10}, {"completed": 10}, WHOLE),
        ({"answered": 8, "failed": 1, "retried": 1}, {"completed": 8}, 100),
        ({"answered": 8}, {"completed": 8}, 300),
        ({"answered": 8}, {"completed": 8, "end_state": "expired"}, 100),
        ({"answered": 8}, {"completed": 9, "end_state": "cancelled"}, 200),
        ({"answered": 9, "failed": 1, "unreadable": 1}, {}, 200),
        ({"answered": 10}, {"unsure": True}, WHOLE),
        ({"tokens_in": 0, "tokens_out": 0}, {"end_state": "failed"}, 0),
        ({"answered": 10, "tokens_in": 2000}, {"completed": 10}, 2050),
    ],
)
def test_a_collected_batch(results, changes, cost):
    assert charge(batch(results, **changes), RATES, collected=True) == cost


def test_one_that_came_to_nothing():
    assert charge(batch(), RATES, collected=False) == 0
    assert charge(batch(unsure=True), RATES, collected=False) == WHOLE


def test_one_without_a_bound():
    with pytest.raises(ValueError, match="no bound"):
        charge(batch(most=None), RATES, collected=True)
