"""A budget needs a price of everything that is sent: seen to before a task with one is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.config.problems import problem_at
from batch_inferd.money.estimate import no_price
from batch_inferd.money.prices import FACT, query_of, stored_price

_LIMIT = "max_tokens"

if TYPE_CHECKING:
    from batch_inferd.services.resolve import Resolved
    from batch_inferd.tasks.context import Context
    from batch_inferd.tasks.task import Task


async def priced(
    context: Context, resolved: Resolved, stored: dict[str, Any], task: Task | None
) -> dict[str, Any] | None:
    """What was looked up for a config with a budget: each of its tokens must have a price.

    None where nothing had to be. Raises ConfigError.
    """
    budget, source = resolved.config.budget, resolved.config.source
    if budget is None:
        return None
    found = None if task is None else task.facts.get(FACT)
    query = query_of(stored)
    if found is None and query is not None:
        found = await context.prices.find(query)
    price = stored_price(stored, found)
    if price is None:
        text = Text("a budget needs a price: {problem}", {"problem": no_price(resolved.model)})
        raise problem_at(source, "budget", text)
    if price.currency != budget.currency:
        values = {"budget": budget.currency, "prices": price.currency}
        text = Text("the budget is in {budget}, the prices are in {prices}; write the same currency", values)
        raise problem_at(source, "budget", text)
    if resolved.backend == "batch" and price.batch is None:
        text = Text("a budget needs a price: write prices.batch_discount, the share that batches cost less")
        raise problem_at(source, "budget", text)
    if _LIMIT in resolved.profile.omit:
        text = Text("a budget needs a bound, and {field} is not sent to this service", {"field": _LIMIT})
        raise problem_at(source, "budget", text)
    if task is not None and not task.budget.agrees(budget.currency):
        text = Text("what was spent so far was counted in another currency; write the budget in that one")
        raise problem_at(source, "budget", text)
    return found
