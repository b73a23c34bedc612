"""What a request may cost at most, before it is sent; and what it has cost, in whole numbers.

Sums of a budget are integers, in billionths of the currency's unit ("nano"), so that nothing drifts: each
call's is rounded up. A bound of tokens is no guess: the input cannot have more tokens than bytes (and what
services add to a message), the output no more than the request allows. Where a request allows it to be
unlimited, or brings in what is not in it, there is no bound, and it cannot be sent under a budget.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_inferd.backends import rawjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.money.prices import Rates

NANO = 10**9
_MILLION = 10**6
# Tokens that services add to what a request says: their own words around it, and around each message.
REQUEST, MESSAGE, TOOLS = 64, 16, 1024

_LIMITS: dict[str, tuple[str, ...]] = {
    "chat": ("max_tokens", "max_completion_tokens"),
    "responses": ("max_output_tokens",),
}
# What is read, searched, written or charged beyond the text of the request.
_BEYOND = (
    "previous_response_id", "conversation", "audio", "web_search_options", "web_search", "enable_search",
    "search_options", "search_parameters", "plugins", "models", "route",
)  # fmt: skip
_BEYOND_OF = {"responses": ("prompt",), "chat": ("prediction",)}
_EMPTY = (b"null", b"false", b"[]", b"{}", b'""')
_PICTURES = frozenset({"image_url", "input_image", "image"})
_OTHERS = frozenset({"video", "video_url", "input_video", "file", "input_file", "document", "audio_url"})
_SOUND = "input_audio"  # its bytes are a bound, where they are in it
_PARTS = re.compile(rb'\\u|"(?:%b)"' % "|".join(sorted({*_PICTURES, *_OTHERS, _SOUND})).encode())
_DIGITS = 10  # no service allows more tokens than numbers of so many can say


class Unbounded(ValueError):  # noqa: N818  said of the request
    """Nobody can say what the request costs at most; the message tells why."""


class NanoRates(msgspec.Struct, frozen=True):
    """Prices of a million tokens, in nano units."""

    input: int
    output: int
    cached_input: int

    @classmethod
    def of(cls, rates: Rates) -> NanoRates:
        """Rounded up."""
        return cls(*(nano(value, up=True) for value in (rates.input, rates.output, rates.cached_input)))

    def cost(self, tokens_in: int, tokens_out: int, cached: int = 0) -> int:
        """What these tokens cost, rounded up; `cached` are among those of the input."""
        cached = min(cached, tokens_in)
        whole = (tokens_in - cached) * self.input + cached * self.cached_input + tokens_out * self.output
        return -(-whole // _MILLION)

    def most(self, tokens_in: int, tokens_out: int) -> int:
        """The same where it is not known how many of them come from the cache."""
        return self.cost(tokens_in, tokens_out, tokens_in if self.cached_input > self.input else 0)


class BudgetPlan(msgspec.Struct, frozen=True):
    """What a worker must know of a task's budget: prices and bounds. What it may spend is granted to it."""

    online: NanoRates
    max_tokens: int  # of an answer whose request does not say it
    image_tokens: int  # that one image has at most
    limit: str = "max_tokens"  # the service's name for the request's own limit


class Most(NamedTuple):
    """The most tokens that a request can have."""

    input: int
    output: int


def nano(amount: float, *, up: bool = False) -> int:
    """An amount in nano units: rounded down, or `up`."""
    exact = Decimal(repr(amount)) * NANO
    whole = int(exact)
    return whole + (up and whole < exact)


def units(amount: int) -> float:
    """An amount of nano units in units of the currency, for people and JSON."""
    return amount / NANO


def bounded(endpoint: str, body: bytes, plan: BudgetPlan, *, own_model: bool = False) -> Most:
    """The most tokens of a request with this body, whose images may still be references.

    `own_model`: it names another model than the config. Raises Unbounded, also for a body that is no JSON
    object; the message is for people.
    """
    try:
        return _most(endpoint, body, plan, own_model=own_model)
    except RecursionError as error:
        raise Unbounded("not sent, as the task has a budget: nested too deeply") from error
    except ValueError as error:
        raise Unbounded(f"not sent, as the task has a budget: {error}") from error


def _most(endpoint: str, body: bytes, plan: BudgetPlan, *, own_model: bool) -> Most:
    if own_model:
        raise Unbounded("it names a model of its own, whose price is not known")
    fields = rawjson.split_object(body)
    for name in (*_BEYOND, *_BEYOND_OF.get(endpoint, ())):
        if name in fields and bytes(fields[name]) not in _EMPTY:
            raise Unbounded(f'what "{name}" costs is not known before')
    if bytes(fields.get("service_tier", b"")) == b'"priority"':
        raise Unbounded('what the service tier "priority" costs is not known')
    tokens = len(body) + REQUEST + MESSAGE * body.count(b'"role"')
    if "tools" in fields or "functions" in fields:
        _check_tools(fields.get("tools"))
        tokens += TOOLS
    if _PARTS.search(body):
        tokens += _pictures(rawjson.loads(body), plan.image_tokens)
    return Most(tokens, _output(endpoint, fields, plan))


def _output(endpoint: str, fields: Mapping[str, bytes | memoryview], plan: BudgetPlan) -> int:
    names = _LIMITS.get(endpoint)
    if names is None:
        return 0  # embeddings
    told = [_whole(name, fields[name]) for name in {*names, plan.limit} if name in fields]
    limit = max(told, default=plan.max_tokens)
    if "thinking_budget" in fields:  # of services that count thoughts beside the answer
        limit += _whole("thinking_budget", fields["thinking_budget"])
    for name in ("n", "best_of"):
        if name in fields and bytes(fields[name]) != b"null":
            limit *= _whole(name, fields[name])
    return limit


def _whole(name: str, raw: bytes | memoryview) -> int:
    """A positive whole number. Raises Unbounded."""
    text = bytes(raw)
    if not text.isdigit() or len(text) > _DIGITS or int(text) < 1:
        shown = text[:50].decode("utf-8", "replace")
        raise Unbounded(f"its {name} is {shown}, which bounds nothing; write a positive whole number")
    return int(text)


def _check_tools(raw: bytes | memoryview | None) -> None:
    """Raises Unbounded for tools that the service runs by itself: they have prices of their own."""
    tools = rawjson.loads(bytes(raw)) if raw is not None else None
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type", "function") if isinstance(tool, dict) else "function"
        if kind not in ("function", "custom"):
            raise Unbounded(f'what the tool "{kind}" costs is not known before')


def _pictures(value: Any, each: int) -> int:
    """What the images below `value` have more than the bytes that stand for them. Raises Unbounded."""
    if isinstance(value, list):
        return sum(_pictures(item, each) for item in value)
    if not isinstance(value, dict):
        return 0
    kind = value.get("type")
    if isinstance(kind, str) and kind in _OTHERS:
        raise Unbounded(f'how many tokens a part of type "{kind}" has is not known before')
    if isinstance(kind, str) and kind in _PICTURES:
        return each - _embedded(value)
    if kind == _SOUND and _is_elsewhere(value.get(_SOUND)):
        raise Unbounded("how many tokens a recording has that is not in it is not known before")
    return sum(_pictures(item, each) for item in value.values())


def _is_elsewhere(sound: Any) -> bool:
    """Whether a recording is only named, and not in the request as base64."""
    data = sound.get("data") if isinstance(sound, dict) else None
    return not isinstance(data, str) or ":" in data.removeprefix("data:")[:64]


def _embedded(part: dict[str, Any]) -> int:
    """Bytes of an image that stands in its part itself, as base64."""
    found = 0
    for value in part.values():
        if isinstance(value, dict):
            if value.get("type") == "base64" and isinstance(value.get("data"), str):
                found += len(value["data"])
            else:
                found += _embedded(value)
        elif isinstance(value, str) and value.startswith("data:"):
            found += len(value)
    return found
