"""`python -m batch_inferd.money.lookup PROVIDER SERVICE MODEL`: what genai-prices knows, as JSON.

A process of its own, see `money.prices`. Nothing is fetched: the prices are those in the package.
"""

from __future__ import annotations

import sys
from typing import Any

import genai_prices
import msgspec

_BATCH = {"processing": "batch"}


def look_up(provider: str, service: str, model: str) -> dict[str, Any]:
    """The fields of a `money.prices.Price`; empty where the model, or its service, is not known."""
    where: dict[str, Any] = {"provider_id": provider} if provider else {"provider_api_url": service}
    usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
    try:
        online = _rates(genai_prices.calc_price(usage, model, **where).model_price)
        batch = _rates(genai_prices.calc_price(usage, model, **where, price_context=_BATCH).model_price)
    except LookupError:
        return {}
    if online is None:
        return {}
    return {
        "online": online,
        "batch": None if batch == online else batch,  # it answers with the usual prices where it knows none
        "source": f"genai-prices {genai_prices.__version__}",
    }


def _rates(prices: Any) -> dict[str, float] | None:
    """The fields of a `Rates`. Where prices step up with a prompt's length, those of short ones."""
    found = [_first(getattr(prices, name, None)) for name in ("input_mtok", "output_mtok", "cache_read_mtok")]
    if found[0] is None:
        return None
    # Models that put nothing out, for embeddings, have no price for that.
    return {
        "input": found[0],
        "output": found[1] or 0.0,
        "cached_input": found[0] if found[2] is None else found[2],
    }


def _first(price: Any) -> float | None:
    base = getattr(price, "base", price)
    return None if base is None else float(base)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(look_up(*sys.argv[1:4])))
