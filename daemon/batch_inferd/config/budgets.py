"""The `budget` section: an amount in dollars, or in the currency of the prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from batch_infer.protocol.text import Text
from batch_inferd.config.kinds import Number, String
from batch_inferd.config.sections import Section

if TYPE_CHECKING:
    from batch_inferd.config.nodes import Node
    from batch_inferd.config.problems import Problems

DOLLARS = "USD"


@dataclass(frozen=True)
class BudgetSection(Section):
    """`{usd: 20}` or `{amount: 20, currency: CNY}`; one of the two amounts must be there."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """`{"amount", "currency"}`; UNSET for a section without values, and for a wrong one."""
        values = super().read(node, key, problems)
        if values is UNSET or not values:
            return UNSET
        if "usd" in values and len(values) > 1:
            problems.add(node.position, Text("budget.usd stands alone; remove amount and currency"))
            return UNSET
        amount = values.get("usd", values.get("amount"))
        if amount is None:
            problems.add(node.position, Text("budget has no amount; write {example}", {"example": "usd: 20"}))
            return UNSET
        return {"amount": amount, "currency": values.get("currency", DOLLARS)}


def budget_section(homes: dict[str, str]) -> BudgetSection:
    """Its keys; `homes` as for all sections."""
    amount = Number(0, 10**9, "20")
    return BudgetSection({"usd": amount, "amount": amount, "currency": String()}, homes)
