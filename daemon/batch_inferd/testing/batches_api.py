"""The routes of batches: create, list, retrieve, cancel."""

from __future__ import annotations

import re
import secrets
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_inferd.testing import batch_rows, file_rows
from batch_inferd.testing.batch_check import parser_of
from batch_inferd.testing.batch_render import TOKEN_KEY, batch_object, page
from batch_inferd.testing.batch_rows import FINAL, Batch
from batch_inferd.testing.calls import decode_object
from batch_inferd.testing.controls import Controls
from batch_inferd.testing.errors import ApiError, invalid, rate_limited, server_error
from batch_inferd.testing.file_rows import new_file_id
from batch_inferd.testing.files_api import no_such_file, page_size

if TYPE_CHECKING:
    import sqlite3

    from aiohttp import web

    from batch_inferd.seams.clock import Clock
    from batch_inferd.testing.batch_runner import BatchRunner
    from batch_inferd.testing.batch_store import BatchStore
    from batch_inferd.testing.faults import Faults

_WINDOW = re.compile(r"([1-9]\d{0,3})([hd])")
_LEAST_H, _MOST_H = 24, 336
_PAGE, _MAX_PAGE = 20, 100


class _Order(NamedTuple):
    """A body of POST /batches that was found good."""

    input_file: str
    endpoint: str
    window: str
    seconds: float
    metadata: dict[str, str] | None


class BatchesApi:
    """What the routes of batches do. All methods raise ApiError, StoreError."""

    def __init__(self, store: BatchStore, faults: Faults, clock: Clock, runner: BatchRunner) -> None:
        self._store = store
        self._faults = faults
        self._clock = clock
        self._runner = runner

    async def create(self, body: bytes) -> tuple[dict[str, Any], bool]:
        """POST /batches: the object, and whether its answer is to be lost."""
        order = _order(body)
        faults, controls = self._faults.batches, self._faults.controls
        self._faults.check_credit()
        if faults.take("reject_create_429"):
            raise rate_limited("Rate limit reached: too many batches are created.", controls.retry_after)
        if faults.take("reject_create_token_limit"):
            raise invalid(
                "Enqueued token limit reached. Please try again once some batches have been completed.",
                code="token_limit_exceeded",
            )

        def work(database: sqlite3.Connection) -> Batch:
            file = file_rows.find_file(database, order.input_file, self._clock.now())
            if file is None:
                raise no_such_file(order.input_file, 400)
            if file.purpose not in ("batch", "batch-api"):
                message = f"Invalid purpose of the input file: expected 'batch', found '{file.purpose}'."
                raise invalid(message, param="input_file_id")
            most = controls.max_in_flight_batches
            if most is not None and batch_rows.count_live(database) >= most:
                raise ApiError(
                    429, f"Too many batches in flight: at most {most}.", "requests", "batch_queue_full"
                )
            return batch_rows.add_batch(database, self._new_batch(order, file, controls))

        batch = await self._store.call(work)
        self._runner.wake()
        if faults.take("create_5xx"):
            raise server_error()
        return batch_object(batch, None, controls), faults.take("accept_then_reset")

    def _new_batch(self, order: _Order, file: file_rows.File, controls: Controls) -> Batch:
        now = self._clock.now()
        metadata = order.metadata
        as_uuid = controls.batch_uuid_ids
        return Batch(
            seq=0,
            id=str(uuid.uuid4()) if as_uuid else f"batch_{secrets.token_hex(12)}",
            created=now,
            expires=now + order.seconds,
            latency=self._faults.batches.latency(controls),
            endpoint=order.endpoint,
            window=order.window,
            metadata=None if metadata is None else msgspec.json.encode(metadata).decode(),
            token=None if metadata is None else metadata.get(TOKEN_KEY),
            input_file=file.id,
            input_sha256=file.sha256 or "",
            input_bytes=file.bytes,
            outcome=self._faults.batches.outcome(controls),
            controls=msgspec.json.encode(controls).decode(),
            output_ref=new_file_id(as_uuid=as_uuid),
            error_ref=new_file_id(as_uuid=as_uuid),
            state="created" if controls.first_state else "validating",
        )

    async def list(self, request: web.BaseRequest) -> dict[str, Any]:
        """GET /batches?limit=&after=, newest first."""
        limit = page_size(request, _PAGE, _MAX_PAGE)
        after = request.query.get("after")
        created_by = self._clock.now() - self._faults.controls.list_lag_s

        def work(database: sqlite3.Connection) -> list[tuple[Batch, str | None]]:
            before = None
            if after:
                last = batch_rows.find_batch(database, after)
                if last is None:
                    raise invalid(f"No such Batch object: {after}", param="after")
                before = last.seq
            found = batch_rows.list_batches(database, before=before, created_by=created_by, limit=limit + 1)
            return [(batch, batch_rows.problems_of(database, batch)) for batch in found]

        return page([_shown(batch, problems) for batch, problems in await self._store.call(work)], limit)

    async def retrieve(self, batch_id: str) -> dict[str, Any]:
        """GET /batches/ID."""

        def work(database: sqlite3.Connection) -> tuple[Batch, str | None]:
            batch = _find(database, batch_id)
            return batch, batch_rows.problems_of(database, batch)

        return _shown(*await self._store.call(work))

    async def cancel(self, batch_id: str) -> dict[str, Any]:
        """POST /batches/ID/cancel: 409 when it has ended already."""
        now = self._clock.now()

        def work(database: sqlite3.Connection) -> Batch:
            batch = _find(database, batch_id)
            if batch.state in FINAL:
                raise invalid(f"Cannot cancel a batch with status '{batch.state}'.", status=409)
            if batch.state != "cancelling":
                batch_rows.enter(database, batch, "cancelling", now)
            return _find(database, batch_id)

        batch = await self._store.call(work)
        self._runner.wake()
        return _shown(batch, None)


def _find(database: sqlite3.Connection, batch_id: str) -> Batch:
    batch = batch_rows.find_batch(database, batch_id)
    if batch is None:
        raise invalid(f"No batch found with id '{batch_id}'.", param="batch_id", status=404)
    return batch


def _shown(batch: Batch, problems: str | None) -> dict[str, Any]:
    return batch_object(batch, problems, msgspec.json.decode(batch.controls, type=Controls))


def _order(body: bytes) -> _Order:
    """The body of a create. Raises ApiError (400)."""
    data = decode_object(body)
    for name in ("input_file_id", "endpoint", "completion_window"):
        value = data.get(name)
        if value is None:
            raise invalid(f"Missing required parameter: '{name}'.", param=name)
        if not isinstance(value, str):
            raise invalid(f"Invalid type for '{name}': expected a string.", param=name)
    endpoint: str = data["endpoint"]
    if parser_of(endpoint) is None:
        raise invalid(
            f"Invalid value: '{endpoint}'. Supported values are: '/v1/chat/completions' and"
            " '/v1/embeddings'.",
            param="endpoint",
            code="invalid_value",
        )
    window: str = data["completion_window"]
    hours = _hours(window)
    if hours is None:
        raise invalid(
            f"Invalid value: '{window}'. Supported values are '{_LEAST_H}h' to '{_MOST_H}h'.",
            param="completion_window",
            code="invalid_value",
        )
    return _Order(data["input_file_id"], endpoint, window, hours * 3600.0, _metadata(data.get("metadata")))


def _hours(window: str) -> int | None:
    match = _WINDOW.fullmatch(window)
    if match is None:
        return None
    hours = int(match[1]) * (24 if match[2] == "d" else 1)
    return hours if _LEAST_H <= hours <= _MOST_H else None


def _metadata(given: Any) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise invalid("Invalid type for 'metadata': expected an object.", param="metadata")
    if len(given) > 16:
        message = f"Invalid 'metadata': too many properties. Expected at most 16, found {len(given)}."
        raise invalid(message, param="metadata", code="object_above_max_properties")
    for key, value in given.items():
        if not isinstance(value, str):
            raise invalid(f"Invalid type for 'metadata.{key}': expected a string.", param=f"metadata.{key}")
        if len(key) > 64 or len(value) > 512:
            message = "Invalid 'metadata': a key has at most 64 characters, a value 512."
            raise invalid(message, param="metadata", code="string_above_max_length")
    return given
