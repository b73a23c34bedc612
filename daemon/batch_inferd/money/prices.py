"""What a task's tokens cost: the config's prices, else those that genai-prices knows of its service.

genai-prices is asked in a process of its own (`money.lookup`): its data would stay in the daemon's memory
for good. Its answer is kept with the task, so that a task's cost does not change when the package does.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_log = logging.getLogger(__name__)

MILLION = 1_000_000
FACT = "price"  # of a task: what was found for it; absent until it was looked for
_LOOKUP_S = 60.0


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens cost; `cached_input` are input tokens from the service's cache."""

    input: float
    output: float
    cached_input: float

    def less(self, discount: float) -> Rates:
        """The same with a share taken off."""
        rest = 1.0 - discount
        return Rates(
            input=rest * self.input, output=rest * self.output, cached_input=rest * self.cached_input
        )


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The rates of a model's online calls and of its batches, in `currency`.

    `batch` is None where it is not known what answers of batches cost. `source` is "config", or the package
    with its version.
    """

    online: Rates
    batch: Rates | None = None
    currency: str = "USD"
    source: str = "config"


def stored_price(snapshot: Mapping[str, Any], found: Mapping[str, Any] | None) -> Price | None:
    """The price that holds for a task: `snapshot` is its config's, `found` what was looked up for it.

    The config's prices go first. None where nothing is known.
    """
    prices = _config(snapshot)
    own, discount = _own(prices), prices.get("batch_discount")
    if own is not None:
        batch = None if discount is None else own.less(discount)
        return Price(online=own, batch=batch, currency=prices.get("currency") or "USD")
    if not found:
        return None
    price = msgspec.convert(found, Price)
    if discount is not None:
        price = msgspec.structs.replace(price, batch=price.online.less(discount))
    return price


def query_of(snapshot: Mapping[str, Any]) -> Query | None:
    """What to ask genai-prices for; None where it is not to be asked: local services are not in it."""
    profile, service = snapshot["profile"], str(snapshot["service"])
    if _own(_config(snapshot)) is not None or not service.startswith("https://"):
        return None
    return Query(str(profile.get("prices") or ""), service, str(snapshot["model"]))


def _config(snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
    return snapshot["config"].get("prices") or {}


def _own(prices: Mapping[str, Any]) -> Rates | None:
    if prices.get("input") is None or prices.get("output") is None:
        return None
    cached = prices.get("cached_input")
    return Rates(
        input=prices["input"],
        output=prices["output"],
        cached_input=prices["input"] if cached is None else cached,
    )


class Query(NamedTuple):
    """A model of a service, named as genai-prices names it ("" where only its address is known)."""

    provider: str
    service: str
    model: str


class PriceBook:
    """Asks for prices, each once in the life of the daemon."""

    def __init__(self, look: Callable[[Query], Awaitable[dict[str, Any]]] | None = None) -> None:
        self._look = look or look_up
        self._found: dict[Query, asyncio.Task[dict[str, Any] | None]] = {}

    async def find(self, query: Query) -> dict[str, Any] | None:
        """The fields of a `Price`; empty where none is known, None where nobody could be asked."""
        asked = self._found.get(query)
        if asked is None:
            name = f"price of {query.model}"
            asked = self._found[query] = asyncio.create_task(self._ask(query), name=name)
        return await asyncio.shield(asked)

    async def _ask(self, query: Query) -> dict[str, Any] | None:
        try:
            return await self._look(query)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            _log.warning("the price of %s at %s cannot be looked up: %s", query.model, query.service, error)
            del self._found[query]  # the next task asks again
            return None


async def look_up(query: Query) -> dict[str, Any]:
    """Ask genai-prices in a process of its own; the fields of a `Price`, empty where it knows none.

    Raises OSError, subprocess.SubprocessError, ValueError.
    """
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "batch_inferd.money.lookup", *query],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LOOKUP_S,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=dict[str, Any])
