"""From tokens to money, and the `cost` of summaries and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_inferd.money.prices import MILLION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.money.prices import Price, Rates
    from batch_inferd.money.used import Used

_DIGITS = 12  # after the point: a short record costs less than a millionth


class Spent(NamedTuple):
    """Money, in a price's currency. `batch` is the part of the sum that batches brought."""

    input: float
    output: float
    batch: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.input + self.output


def spent(used: Used, price: Price) -> Spent | None:
    """What tokens cost; None where batches brought some of them, and what these cost is not known.

    Answers that did not tell their tokens are not in it: see `Used.unknown`.
    """
    online, batch = price.online, price.batch
    if batch is None:
        if used.batch_input or used.batch_output:
            return None
        batch = online
    batched = _input(used.batch_input, used.batch_cached, batch), used.batch_output * batch.output / MILLION
    called = (
        _input(used.input - used.batch_input, used.cached - used.batch_cached, online),
        (used.output - used.batch_output) * online.output / MILLION,
    )
    return Spent(batched[0] + called[0], batched[1] + called[1], sum(batched))


def _input(tokens: int, cached: int, rates: Rates) -> float:
    return ((tokens - cached) * rates.input + cached * rates.cached_input) / MILLION


def amount(money: Spent | float | None) -> float | None:
    """A sum for JSON."""
    if money is None:
        return None
    return round(money.total if isinstance(money, Spent) else money, _DIGITS)


def cost_json(
    used: Used,
    price: Price | None,
    forecast: float | None = None,
    budget: Mapping[str, float] | None = None,
    under_way: float | None = 0.0,
) -> dict[str, Any] | None:
    """The `cost` of docs/costs.md; None where no price is known.

    `budget`: what the task's budget says, if it has one; else `under_way` is what was sent and is not back.
    """
    if price is None:
        return None
    money = spent(used, price)
    known = used.answered - used.unknown
    return {
        "currency": price.currency,
        "spent": amount(money),
        "input": None if money is None else amount(money.input),
        "output": None if money is None else amount(money.output),
        "batch": None if money is None else amount(money.batch),
        "online": None if money is None else amount(money.total - money.batch),
        "unknown_records": used.unknown,
        "per_record": None if money is None or known <= 0 else amount(money.total / known),
        "forecast": amount(forecast),
        **(budget or {"budget": None, "committed": amount(_sum(money, under_way))}),
        "prices": rates_json(price),
    }


def _sum(money: Spent | None, more: float | None) -> float | None:
    return None if money is None or more is None else money.total + more


def rates_json(price: Price) -> dict[str, Any]:
    """The prices of a million tokens, and where they come from."""
    plain: dict[str, Any] = msgspec.to_builtins(price)
    del plain["currency"]
    return plain
