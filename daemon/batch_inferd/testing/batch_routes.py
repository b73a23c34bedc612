"""Finds the routes of files and batches, and takes a request through them.

A route is known by the end of its path, so that the base URL of any provider's shape leads here:
`/v1/files`, `/openai/v1/files`, `/api/paas/v4/files`, `/v1/files/upload`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from batch_inferd.testing import delivery
from batch_inferd.testing.batch_store import StoreError
from batch_inferd.testing.errors import ApiError, invalid, server_error
from batch_inferd.testing.files_api import Content, FilesApi
from batch_inferd.testing.ledger import request_id
from batch_inferd.testing.ledger_writer import LedgerError, LedgerWriter, Settlement
from batch_inferd.testing.replies import Reply, error_reply, json_reply, sent_key

if TYPE_CHECKING:
    from batch_inferd.testing.batches_api import BatchesApi
    from batch_inferd.testing.faults import Faults

_log = logging.getLogger(__name__)
_CHUNK = 256 << 10
_ID = r"/(?P<id>[^/]+)"
# The first that fits: path, and what each method does.
_ROUTES: tuple[tuple[re.Pattern[str], dict[str, str]], ...] = tuple(
    (re.compile(f"(?:/[^/]+)*{path}/?"), methods)
    for path, methods in (
        (f"/batches{_ID}/cancel", {"POST": "cancel"}),
        (f"/files{_ID}/content", {"GET": "content"}),
        ("/batches", {"POST": "create", "GET": "batches"}),
        ("/files", {"POST": "upload", "GET": "files"}),
        ("/files/(?P<id>upload)", {"POST": "upload", "GET": "file"}),
        (f"/batches{_ID}", {"GET": "batch"}),
        (f"/files{_ID}", {"GET": "file", "DELETE": "delete"}),
    )
)


class Route(NamedTuple):
    """What a request asks for."""

    name: str  # one of batch_controls.Route; "" when the method is not allowed
    id: str


def find_route(method: str, path: str) -> Route | None:
    """The route of a request; None when it is none of these."""
    for pattern, methods in _ROUTES:
        if (match := pattern.fullmatch(path)) is not None:
            return Route(methods.get(method, ""), match.groupdict().get("id", ""))
    return None


class BatchRoutes:
    """Answers the requests for files and batches. The ledger has a row for each, and bills none."""

    def __init__(self, faults: Faults, ledger: LedgerWriter, files: FilesApi, batches: BatchesApi) -> None:
        self._faults = faults
        self._ledger = ledger
        self._files = files
        self._batches = batches

    async def handle(self, request: web.BaseRequest, route: Route, in_flight: int) -> web.StreamResponse:
        """Answer one request; `in_flight` is for its row."""
        key = sent_key(request)
        serial = self._ledger.arrive(
            method=request.method,
            path=request.path,
            key_digest=None if key is None else hashlib.sha256(key.encode()).hexdigest()[:16],
            model=None,
            content_digest=None,
            in_flight=in_flight,
        )
        try:
            self._faults.check_key(key)
            if not route.name:
                raise invalid(f"Not allowed to {request.method} on {request.path}.", status=405)
            self._faults.batches.check_route(route.name)
            told = await self._do(request, route)
            if told is None:
                await self._ledger.settle(Settlement(serial, "dropped"))
                delivery.drop(request)
                return web.Response()
            if isinstance(told, Content):
                return await self._send_content(request, serial, told)
            return await self._send(request, serial, json_reply(serial, told))
        except ApiError as error:
            html = self._faults.controls.html_5xx
            return await self._send(request, serial, error_reply(serial, error, {}, html=html))
        except (ConnectionError, web.RequestPayloadError):
            delivery.drop(request)  # the client left in the middle of its own words
        except (StoreError, LedgerError, OSError):
            _log.exception("%s %s failed", request.method, request.path)
            await _deliver(request, error_reply(serial, server_error(), {}))
        return web.Response()

    async def _do(self, request: web.BaseRequest, route: Route) -> dict[str, Any] | Content | None:
        """What is to be told; None for a connection that breaks."""
        match route.name:
            case "upload":
                told, lost = await self._files.upload(request)
                return None if lost else told
            case "files":
                return await self._files.list(request)
            case "file":
                return await self._files.retrieve(route.id)
            case "content":
                return await self._files.content(route.id)
            case "delete":
                return await self._files.delete(route.id)
            case "create":
                told, lost = await self._batches.create(await request.read())
                return None if lost else told
            case "batches":
                return await self._batches.list(request)
            case "batch":
                return await self._batches.retrieve(route.id)
            case _:
                return await self._batches.cancel(route.id)

    async def _send(self, request: web.BaseRequest, serial: int, reply: Reply) -> web.StreamResponse:
        outcome = "answered" if reply.status == 200 else f"error_{reply.status}"
        await self._ledger.settle(Settlement(serial, outcome, reply.status))
        response, delivered = await _deliver(request, reply)
        if delivered:
            self._ledger.deliver(serial)
        return response

    async def _send_content(
        self, request: web.BaseRequest, serial: int, content: Content
    ) -> web.StreamResponse:
        """A file, a buffer at a time."""
        headers = {"Content-Type": "application/octet-stream", "x-request-id": request_id(serial)}
        response = web.StreamResponse(headers=headers)
        response.content_length = content.bytes
        left = content.bytes // 2 if content.truncated else content.bytes
        with await asyncio.to_thread(content.path.open, "rb") as file:
            outcome = "truncated" if content.truncated else "answered"
            await self._ledger.settle(Settlement(serial, outcome, 200))
            await response.prepare(request)
            while left and (data := await asyncio.to_thread(file.read, min(_CHUNK, left))):
                await response.write(data)
                left -= len(data)
        if request.transport is None:
            return response
        if content.truncated or left:
            request.transport.close()
            return response
        request.transport.set_write_buffer_limits(high=0)  # so that draining means: nothing is left here
        await response.write_eof()
        if delivery.connected(request):
            self._ledger.deliver(serial)
        return response


async def _deliver(request: web.BaseRequest, reply: Reply) -> tuple[web.Response, bool]:
    response = web.Response(status=reply.status, headers=reply.headers, body=reply.body)
    return response, await delivery.deliver(request, response)
