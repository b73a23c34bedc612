"""What a batch that has ended counts in its task's budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.batches.submission import Detail, Submission
    from batch_inferd.money.budget import NanoRates


def charge(one: Submission, rates: NanoRates, *, collected: bool) -> int:
    """In nano units, of a batch whose tokens are bounded (`detail.most`).

    At most its highest cost, unless its answers tell more.
    `collected`: it was, so that it may have run. Lines that may have been billed without telling count as
    the largest line of the batch.
    """
    most = one.detail.most
    if most is None:
        raise ValueError("a batch whose tokens have no bound")
    whole = rates.most(most.input, most.output)
    if one.detail.unsure:
        return whole
    if not collected:
        return 0
    results = one.detail.results or {}
    known = rates.cost(*(results.get(name, 0) for name in ("tokens_in", "tokens_out", "tokens_cached")))
    doubtful = results.get("tokens_unknown", 0) + billed_without(one.detail, one.requests, results)
    line = rates.most(most.line_input, most.line_output)
    return max(known, min(whole, known + doubtful * line))


def billed_without(detail: Detail, requests: int, results: Mapping[str, int]) -> int:
    """Lines, of the `requests` of a batch, that may be billed without an answer that is home."""
    answered, completed = results.get("answered", 0), detail.completed or 0
    lost = max(0, completed - answered)
    if detail.end_state == "completed":
        lost = max(lost, requests - answered - results.get("failed", 0) - results.get("retried", 0))
    return lost + results.get("unreadable", 0)
