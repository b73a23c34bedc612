"""What a task would cost, before it runs: from a look at its input, and from what earlier tasks came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.text import Text
from batch_inferd.money.cost import Spent, amount, rates_json, spent
from batch_inferd.money.used import Used
from batch_inferd.services.batch_settings import window_hours, window_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_inferd.money.prices import Price
    from batch_inferd.money.survey import Stratum
    from batch_inferd.services.resolve import Resolved

OUTPUT = 256  # tokens of an answer, where no earlier task tells
_CALL_S, _TOKEN_S = 1.0, 0.02  # of a call, and of each token of its answer, likewise


class Past(NamedTuple):
    """What a task of the same service and model came to. `seconds` are those of its online calls' run."""

    used: Used
    records: int
    seconds: float | None


class Input(NamedTuple):
    """What a look at the input found, as far as it is taken. `exact`: all of it was read.

    `images` says how the tokens of images were told; `image_bytes` are added to the input's when it is sent.
    """

    found: Stratum
    bytes: int
    read: int
    exact: bool
    images: Text
    image_bytes: float = 0.0


def estimate(resolved: Resolved, looked: Input, past: Iterable[Past], price: Price | None) -> dict[str, Any]:
    """The `estimate` of docs/costs.md, without the names of input, service and model."""
    found, past = looked.found, list(past)
    config = resolved.config
    records = round(found.records)
    each, told = _output(past, config.model.max_tokens)
    images, image_tokens = round(found.images), round(found.image_tokens)
    used = Used(input=round(found.tokens) + image_tokens, output=round(each * records))
    most = used._replace(output=config.model.max_tokens * records)
    return {
        "records": records,
        "bytes": looked.bytes,
        "exact": looked.exact,
        "read": looked.read,
        "tokens": {
            "text": round(found.tokens),
            "images": images,
            "image_tokens": image_tokens,
            "input": used.input,
            "output": used.output,
            "output_most": most.output,
            "output_from": "earlier tasks" if told else "assumption",
        },
        "batches": _batches(resolved, records, looked.bytes + round(looked.image_bytes)),
        "duration_s": {
            "online": _duration(resolved, records, used, each, past),
            "batch": None if resolved.profile.batch is None else _window_s(resolved),
        },
        "currency": None if price is None else price.currency,
        "cost": {
            "online": _range(used, most, price, batch=False),
            "batch": _range(used, most, price, batch=True) if resolved.profile.batch else None,
        },
        "prices": None if price is None else rates_json(price),
        "notes": [text.to_wire() for text in _notes(resolved, looked, images, price, told=told)],
    }


def _output(past: list[Past], max_tokens: int) -> tuple[float, bool]:
    """Tokens of an answer, and whether earlier tasks told."""
    known = sum(one.used.answered - one.used.unknown for one in past)
    if known > 0:
        return min(float(max_tokens), sum(one.used.output for one in past) / known), True
    return float(min(max_tokens, OUTPUT)), False


def _range(used: Used, most: Used, price: Price | None, *, batch: bool) -> dict[str, float | None] | None:
    """What is expected, what it comes to where each answer is as long as it may be, and the input alone."""
    if price is None:
        return None
    sums = [_spent(one, price, batch=batch) for one in (used, most)]
    if None in sums:
        return None
    expected, top = sums
    return {
        "expected": amount(expected),
        "most": amount(top),
        "input": None if expected is None else amount(expected.input),
    }


def _spent(used: Used, price: Price, *, batch: bool) -> Spent | None:
    if batch:
        used = used._replace(batch_input=used.input, batch_output=used.output)
    return spent(used, price)


def _batches(resolved: Resolved, records: int, size: int) -> int | None:
    """How many upstream batches it takes at least; None where there are none."""
    api = resolved.batch or resolved.profile.batch
    if api is None:
        return None
    return max(-(-records // api.max_requests), -(-size // api.max_bytes))


def _window_s(resolved: Resolved) -> float | None:
    if resolved.profile.batch is None:
        return None
    return 3600.0 * window_hours(resolved.window or window_of(resolved.config.batch, resolved.profile.batch))


def _duration(resolved: Resolved, records: int, used: Used, each: float, past: list[Past]) -> float:
    """Seconds of online calls: at the rate of earlier tasks, else by an assumption; limits hold."""
    seconds = sum(one.seconds for one in past if one.seconds)
    ended = sum(one.records for one in past if one.seconds)
    limits, execution = resolved.config.limits, resolved.config.execution
    if seconds and ended:
        guess = records * seconds / ended
    else:
        guess = records * (_CALL_S + _TOKEN_S * each) / min(execution.concurrency, resolved.max_concurrency)
    if limits.rpm:
        guess = max(guess, 60.0 * records / limits.rpm)
    if limits.tpm:
        guess = max(guess, 60.0 * (used.input + used.output) / limits.tpm)
    return round(guess, 1)


def _notes(resolved: Resolved, looked: Input, images: int, price: Price | None, *, told: bool) -> list[Text]:
    notes = []
    if not looked.exact:
        notes.append(
            Text("extrapolated from {n} records; the others were not read", {"n": f"{looked.read:,}"})
        )
    notes.append(Text("tokens are guessed from the text: the service counts them by its own rule"))
    if images:
        notes.append(looked.images)
    if not told:
        notes.append(Text("no earlier task of this model tells how long answers are: that is assumed"))
    if price is None:
        notes.append(no_price(resolved.model))
    elif resolved.profile.batch is not None and price.batch is None:
        notes.append(Text("what its batches cost is not known; write prices.batch_discount into the config"))
    return notes


def no_price(model: str) -> Text:
    """Nothing is known of what the model costs."""
    return Text(
        "no price of {model} is known; write prices: with input and output into the config", {"model": model}
    )
