"""`estimate`: what an input would cost with a config. Sends nothing, and stores nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from batch_inferd.config.load import parse_config
from batch_inferd.config.snapshot import snapshot
from batch_inferd.intake.source import pin
from batch_inferd.intake.spool import record_id
from batch_inferd.money import estimate as estimates
from batch_inferd.money.prices import query_of, stored_price
from batch_inferd.money.survey import Stratum, Survey, of_weights, survey
from batch_inferd.money.tokens import Weight, weigh
from batch_inferd.money.view import ImageView
from batch_inferd.requests.params import string, submission
from batch_inferd.services.resolve import image_plan_of, resolve
from batch_inferd.sources.done import done_ids
from batch_inferd.sources.open import open_source
from batch_inferd.tasks import entering, states
from batch_inferd.tasks.spooling import STDIN_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_infer.protocol.text import Text
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer
    from batch_inferd.services.resolve import Resolved
    from batch_inferd.tasks.spooling import Origin
    from batch_inferd.tasks.submitting import Submission

_NOWHERE = "http://127.0.0.1/v1"  # where the test service would listen: it is not called
_WEIGHED = 10_000  # records of a source that are looked at
_COUNTING_S = 60.0  # and how long the others are counted


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """See `estimate` in docs/costs.md. Raises ConfigError, InputError."""
    sent = submission(params, string(params, "input"))
    config = await asyncio.to_thread(
        parse_config, sent.config, sent.config_path, sent.settings, sent.overrides
    )
    resolved = resolve(config, sent.env, sent.proxy, test_base_url=_NOWHERE)
    looked, notes = await asyncio.to_thread(_look, sent, resolved)
    plain = snapshot(resolved, "")
    query = query_of(plain)
    found = None if query is None else await app.context.prices.find(query)
    price = stored_price(plain, found)
    await app.registry.ready.wait()
    past = list(_past(app, resolved))
    found_cost = estimates.estimate(resolved, looked, past, price)
    return {
        "input": sent.input,
        "service": resolved.service,
        "model": resolved.model,
        "backend": resolved.backend,
        **found_cost,
        "notes": [*(note.to_wire() for note in notes), *found_cost["notes"]],
    }


def _look(sent: Submission, resolved: Resolved) -> tuple[estimates.Input, tuple[Text, ...]]:
    """Survey what of the input is taken, and what is to be said of it. Blocks. Raises InputError, OSError."""
    entry = entering.enter(sent.input, sent.stdin, resolved, sent)
    resolved = replace(resolved, s3=entry.s3, from_source=entry.spooled)
    view = ImageView(resolved.model, resolved.profile.name, image_plan_of(resolved))
    if entry.origin is not None:
        found, size = _from_source(entry.origin, sent.input, resolved, view)
    else:
        size = (entry.pin or pin(sent.input)).size
        found = survey(sent.input, size, resolved.messages_key, view=view)
    records = found.records
    taken = min(records, float(resolved.config.test_lines) or records)
    share = taken / records if records else 1.0
    part, size = found.first(taken), round(size * share)
    images = part.images * view.bytes_each
    return estimates.Input(part, size, found.read, found.exact, view.note(), images), entry.notes


def _from_source(origin: Origin, path: str, resolved: Resolved, view: ImageView) -> tuple[Survey, int]:
    """The survey of a source, and the bytes of its records: the first ones are weighed, all are counted."""
    spec = origin.spec
    if spec.path == STDIN_NAME:  # it lies in a file now
        spec = msgspec.structs.replace(spec, path=path)
    done = frozenset[str]() if origin.done is None else done_ids(origin.done)[0]
    source = open_source(spec, resolved.s3, resolved.config.input.max_line_bytes)
    most = None if done else source.count()
    weights: list[Weight] = []
    count = size = 0
    began = time.monotonic()
    for line in source.records():
        if done and record_id(line) in done:
            continue
        count += 1
        if len(weights) < _WEIGHED:
            weights.append(weigh(line, resolved.messages_key, view))
            size += len(line) + 1
        elif most is not None or time.monotonic() - began > _COUNTING_S:
            break
    count = count if most is None else max(most, len(weights))
    found = of_weights(weights)
    if count == len(weights):
        return found, size
    more = count / len(weights)
    strata = tuple(Stratum(*(value * more for value in stratum)) for stratum in found.strata)
    return Survey(strata, exact=False, read=found.read), round(size * more)


def _past(app: App, resolved: Resolved) -> Iterator[estimates.Past]:
    """What completed tasks of the same service and model came to."""
    for task in app.registry.tasks.values():
        same = (task.config["service"], task.config["model"]) == (resolved.service, resolved.model)
        if not same or task.state != states.COMPLETED:
            continue
        seconds = float(task.facts.get("ended") or 0.0) - float(task.facts.get("started") or 0.0)
        timed = task.backend == "online" and task.facts.get("started") and seconds > 0
        yield estimates.Past(task.money.used, task.progress.terminal, seconds if timed else None)
