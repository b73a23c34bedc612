"""The routes of files: upload, list, retrieve, content, delete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_inferd.testing import file_rows, uploads
from batch_inferd.testing.batch_render import file_object, page
from batch_inferd.testing.errors import ApiError, invalid, server_error
from batch_inferd.testing.file_rows import File, new_file_id

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from aiohttp import web

    from batch_inferd.seams.clock import Clock
    from batch_inferd.testing.batch_store import BatchStore
    from batch_inferd.testing.faults import Faults

PURPOSES = frozenset({"batch", "batch-api", "assistants", "evals", "fine-tune", "user_data", "vision"})
_MAX_PAGE = 10_000


class Content(NamedTuple):
    """A file that goes out as it is."""

    path: Path
    bytes: int
    truncated: bool


class FilesApi:
    """What the routes of files do. All methods raise ApiError, StoreError."""

    def __init__(self, store: BatchStore, faults: Faults, clock: Clock) -> None:
        self._store = store
        self._faults = faults
        self._clock = clock

    async def upload(self, request: web.BaseRequest) -> tuple[dict[str, Any], bool]:
        """POST /files: the object, and whether its answer is to be lost."""
        controls = self._faults.controls
        received = await uploads.receive(request, self._store.folder, controls.batch_max_bytes)
        try:
            if self._faults.batches.take("upload_5xx"):
                raise server_error()
            file = self._new_file(received)
            await asyncio.to_thread(uploads.put, received, file.id)
        except ApiError:
            await asyncio.to_thread(received.path.unlink)
            raise
        await self._store.call(lambda database: file_rows.add_file(database, file))
        return file_object(file), self._faults.batches.take("drop_upload")

    def _new_file(self, received: uploads.Upload) -> File:
        fields = received.fields
        if (purpose := fields.get("purpose")) is None:
            raise invalid("Missing required parameter: 'purpose'.", param="purpose")
        if purpose not in PURPOSES:
            message = f"'{purpose}' is not one of {sorted(PURPOSES)} - 'purpose'"
            raise invalid(message, param="purpose")
        now = self._clock.now()
        seconds = fields.get("expires_after[seconds]")
        if seconds is not None and not (seconds.isascii() and seconds.isdigit()):
            raise invalid("Invalid 'expires_after': seconds must be a number.", param="expires_after")
        return File(
            0,
            new_file_id(as_uuid=self._faults.controls.batch_uuid_ids),
            purpose,
            fields.get("file_name") or received.filename,
            received.bytes,
            received.sha256,
            now,
            None if seconds is None else now + int(seconds),
        )

    async def list(self, request: web.BaseRequest) -> dict[str, Any]:
        """GET /files?purpose=&limit=&after=&order=."""
        limit = page_size(request, _MAX_PAGE, _MAX_PAGE)
        after, purpose = request.query.get("after"), request.query.get("purpose")
        oldest, now = request.query.get("order") == "asc", self._clock.now()

        def work(database: sqlite3.Connection) -> list[File]:
            before = None
            if after:
                file = file_rows.find_file(database, after, now)
                if file is None:
                    raise invalid(f"No such File object: {after}", param="after")
                before = file.seq
            return file_rows.list_files(
                database, now, before=before, limit=limit + 1, purpose=purpose, oldest=oldest
            )

        return page([file_object(file) for file in await self._store.call(work)], limit)

    async def retrieve(self, file_id: str) -> dict[str, Any]:
        """GET /files/ID."""
        return file_object(await self._find(file_id))

    async def content(self, file_id: str) -> Content:
        """GET /files/ID/content."""
        file = await self._find(file_id)
        truncated = self._faults.batches.take("batch_truncate_download")
        return Content(self._store.folder / file.id, file.bytes, truncated)

    async def delete(self, file_id: str) -> dict[str, Any]:
        """DELETE /files/ID. A batch that is live keeps the bytes of its input."""
        file = await self._find(file_id)
        now = self._clock.now()
        free = await self._store.call(lambda database: file_rows.delete_file(database, file.id, now))
        if free:
            await asyncio.to_thread((self._store.folder / file.id).unlink, missing_ok=True)
        return {"id": file.id, "object": "file", "deleted": True}

    async def _find(self, file_id: str) -> File:
        now = self._clock.now()
        file = await self._store.call(lambda database: file_rows.find_file(database, file_id, now))
        if file is None:
            raise no_such_file(file_id)
        return file


def no_such_file(file_id: str, status: int = 404) -> ApiError:
    """There is no such file, or not any more."""
    return invalid(f"No such File object: {file_id}", param="id", status=status)


def page_size(request: web.BaseRequest, default: int, most: int) -> int:
    """The query's `limit`. Raises ApiError (400)."""
    text = request.query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
        raise invalid(f"Invalid 'limit': must be a number from 1 to {most}.", param="limit")
    return int(text)
