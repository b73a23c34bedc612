"""What the calls and batches under way of a task without a budget may still cost: an estimate, no bound.

Their input is taken for the mean of the answers that told it, before those for what the input's text weighs;
their output for all that `max_tokens` allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.money.prices import MILLION

if TYPE_CHECKING:
    from batch_inferd.money.prices import Price
    from batch_inferd.money.survey import Survey
    from batch_inferd.money.used import Used


def under_way(
    price: Price, used: Used, found: Survey | None, *, calls: int, batched: int, max_tokens: int
) -> float | None:
    """In the price's currency; None where nothing tells it yet.

    Args:
        price: of the task.
        used: what the answers so far were billed for.
        found: the survey of its input, once it was made.
        calls: records that were sent online, and are not back.
        batched: records of batches that are, or may be, at the provider, and were not collected.
        max_tokens: that an answer may have.
    """
    if not calls and not batched:
        return 0.0
    known = used.answered - used.unknown
    if known > 0:
        mean = used.input / known
    elif found is not None and found.records:
        whole = found.first(found.records)
        mean = whole.total / whole.records
    else:
        return None
    total = 0.0
    for records, rates in ((calls, price.online), (batched, price.batch)):
        if records and rates is None:
            return None
        if records and rates is not None:
            total += records * (mean * rates.input + max_tokens * rates.output) / MILLION
    return total
