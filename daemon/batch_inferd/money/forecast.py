"""What a task will have cost at its end, from what its first answers cost.

The service's own counts of the answers so far are scaled up: those of the input by what the rest of the
input weighs in comparison, those of the output by the number of records. Records are sent in order, so the
answers so far are taken for those of the first records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.money.cost import spent

if TYPE_CHECKING:
    from batch_inferd.money.prices import Price
    from batch_inferd.money.survey import Survey
    from batch_inferd.money.used import Used


def forecast(used: Used, price: Price, found: Survey, done: int, expected: float) -> float | None:
    """The final sum, in the price's currency; None as long as nothing tells it.

    Args:
        used: what the answers so far were billed for.
        price: of the task.
        found: the survey of its input.
        done: records that have ended, failed ones too.
        expected: records that the whole task will have.
    """
    money = spent(used, price)
    known = used.answered - used.unknown
    if money is None or known <= 0 or done <= 0:
        return None
    begun, whole = found.first(done), found.first(expected)
    by_records = max(1.0, expected / done)
    by_weight = by_records
    if begun.total > 0 and begun.records > 0 and whole.records > 0:
        # A sample may know a few records less than there are.
        missed = (expected / whole.records) / (done / begun.records)
        by_weight = max(1.0, missed * whole.total / begun.total)
    told = used.answered / known  # what is unknown is taken to be like the rest
    return told * (by_weight * money.input + by_records * money.output)
