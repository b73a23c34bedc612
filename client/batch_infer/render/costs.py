"""The costs of tasks, added up: by model, by day, and in total. Currencies are never added to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.render.public import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKENS = ("input", "cached", "output", "unknown")


def public_costs(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer of -cost -json; see docs/costs.md."""
    days = [day | {"model": row["model"]} for row in rows for day in row["days"]]
    return {
        "schema": SCHEMA,
        "total": added(rows),
        "models": [
            {"model": model, **added(row for row in rows if row["model"] == model)}
            for model in sorted({row["model"] for row in rows})
        ],
        "days": [
            {"day": day, **added(row for row in days if row["day"] == day)}
            for day in sorted({row["day"] for row in days})
        ],
        "tasks": rows,
    }


def added(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sums over tasks or days.

    `spent` is by currency. `unknown_records` are answers that did not tell their tokens; `unpriced_records`
    those with tokens that nobody knows the price of.
    """
    sums: dict[str, float] = {}
    tokens = dict.fromkeys(_TOKENS, 0)
    answered = unpriced = 0
    for row in rows:
        answered += row["answered"]
        for name in _TOKENS:
            tokens[name] += row["tokens"][name]
        cost = row["cost"]
        if cost is None or cost["spent"] is None:
            unpriced += row["answered"] - row["tokens"]["unknown"]
        else:
            sums[cost["currency"]] = sums.get(cost["currency"], 0.0) + cost["spent"]
    return {
        "spent": {currency: round(value, 12) for currency, value in sorted(sums.items())},
        "answered": answered,
        "unknown_records": tokens["unknown"],
        "unpriced_records": unpriced,
        "tokens": tokens,
    }
