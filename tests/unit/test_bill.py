"""A bill says what a task has cost, and nothing of what it may cost."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from batch_inferd.money.cost import cost_json
from batch_inferd.money.prices import Price, Rates
from batch_inferd.money.used import Used
from batch_inferd.tasks.bill import bill_of

PRICE = Price(online=Rates(input=2.0, output=10.0, cached_input=0.5), currency="EUR")
USED = Used(answered=3, input=1000, output=500)
COUNTS = {
    "answered": 3,
    "tokens_unknown": 0,
    "tokens_in": 1000,
    "tokens_cached": 0,
    "tokens_out": 500,
    "batch_in": 0,
    "batch_cached": 0,
    "batch_out": 0,
}


def ended(price):
    async def settled():
        pass

    async def spending():
        return [("2026-02-03", COUNTS)]

    return SimpleNamespace(
        id="A",
        model="m",
        config={"service": "test"},
        state="completed",
        opened=nullcontext,
        money=SimpleNamespace(settled=settled, price=price, used=USED),
        db=SimpleNamespace(spending=spending),
    )


async def test_a_bill_has_the_cost_without_what_a_budget_says():
    bill = await bill_of(ended(PRICE))
    (day,) = bill["days"]
    whole = cost_json(USED, PRICE)
    assert {"budget", "committed"} <= set(whole)
    assert bill["cost"] == day["cost"] == {k: v for k, v in whole.items() if k not in ("budget", "committed")}
    assert bill["cost"]["spent"] == pytest.approx((1000 * 2 + 500 * 10) / 1e6)


async def test_a_bill_without_a_price():
    bill = await bill_of(ended(None))
    assert bill["cost"] is None
    assert [day["cost"] for day in bill["days"]] == [None]
    assert bill["answered"] == 3
