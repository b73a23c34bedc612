"""The routes of the test service, and the way of a request through it.

1. Key, body, model and credit are checked, as the real one does (401, 403, 400, 404, 402).
2. The request is written down in the ledger.
3. Storm and limits may refuse it (429); then the controls decide how it ends.
4. It takes its time.
5. Outcome and bill are committed, and only then does anything go out.
6. Whether it was delivered is written down.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from batch_inferd.testing import delivery
from batch_inferd.testing.batch_routes import find_route
from batch_inferd.testing.billing import billed, told
from batch_inferd.testing.chat import parse_chat
from batch_inferd.testing.embeddings import parse_embeddings
from batch_inferd.testing.errors import ApiError, invalid, server_error, unknown_url
from batch_inferd.testing.ledger import request_id
from batch_inferd.testing.ledger_writer import LedgerError, LedgerWriter, Settlement
from batch_inferd.testing.render import JSON_TYPE, answer_bytes, garbage_bytes
from batch_inferd.testing.replies import Reply, error_reply, json_reply, sent_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.testing.batch_routes import BatchRoutes
    from batch_inferd.testing.batch_runner import BatchRunner
    from batch_inferd.testing.calls import Call
    from batch_inferd.testing.control_routes import ControlRoutes
    from batch_inferd.testing.faults import Faults

MAX_BODY_BYTES = 256 << 20
DEFAULT_MODEL = "test-model"

# The calls that are worked on and billed, by the end of their path: providers have prefixes of their own.
_CALLS: dict[str, Callable[[bytes], Call]] = {
    "/chat/completions": parse_chat,
    "/embeddings": parse_embeddings,
}
_MODELS = "/models"


class Service:
    """The handler of all requests; knows how many are under way, and when the last one ended."""

    def __init__(
        self,
        faults: Faults,
        ledger: LedgerWriter,
        control_routes: ControlRoutes,
        batch_routes: BatchRoutes,
        runner: BatchRunner,
    ) -> None:
        self._faults = faults
        self._ledger = ledger
        self._control_routes = control_routes
        self._batch_routes = batch_routes
        self._runner = runner
        self._open = 0  # requests of all kinds
        self._in_flight = 0  # requests that the ledger knows
        self._last = time.monotonic()

    def idle_s(self) -> float:
        """Seconds since the last request or the last work for a batch; 0 while a request is under way."""
        return 0.0 if self._open else min(time.monotonic() - self._last, self._runner.idle_s())

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self._open += 1
        try:
            if request.path.startswith("/_"):
                return await self._control_routes.handle(request)
            if (route := find_route(request.method, request.path)) is not None:
                return await self._batch_routes.handle(request, route, self._in_flight)
            self._in_flight += 1
            try:
                return await self._serve(request)
            finally:
                self._in_flight -= 1
        finally:
            self._open -= 1
            self._last = time.monotonic()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Check a request, write it down, and let it be worked on or refused."""
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            body = None
        except (ConnectionError, web.RequestPayloadError):
            delivery.drop(request)  # the client left in the middle of its own words
            return web.Response()
        key, call, error = sent_key(request), None, None
        try:
            self._faults.check_key(key)
            call = _parse(request, body)
            if call is not None:
                self._faults.check_account(call.model)
        except ApiError as refused:
            error = refused
        serial = self._ledger.arrive(
            method=request.method,
            path=request.path,
            key_digest=None if key is None else hashlib.sha256(key.encode()).hexdigest()[:16],
            model=None if call is None else call.model,
            content_digest=None if call is None else call.digest,
            in_flight=self._in_flight,
        )
        try:
            if error is not None:
                raise error
            if call is None:
                return await self._send_models(request, serial)
            with self._faults.work(key or "") as headers:
                return await self._work(request, serial, call, headers)
        except ApiError as refused:
            return await self._refuse(request, serial, refused, {})
        except LedgerError:  # the ledger has logged it; a request that is not on disk is not answered
            return await self._send(request, serial, error_reply(serial, server_error(), {}))

    async def _work(
        self, request: web.BaseRequest, serial: int, call: Call, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Do what the controls have in mind for a call that was let in."""
        fate = self._faults.fate(call.text)
        if fate.delay_s:
            await asyncio.sleep(fate.delay_s)
        if fate.error is not None:
            return await self._refuse(request, serial, fate.error, headers)
        if fate.ending == "drop":
            await self._ledger.settle(Settlement(serial, "dropped"))
            delivery.drop(request)
            return web.Response()
        if fate.ending == "hang":
            await self._ledger.settle(Settlement(serial, "hung"))
            await delivery.hang(request)
            return web.Response()

        # From here on the model has spoken, and that costs money however the answer arrives.
        controls = self._faults.controls
        answer = billed(call.answer(serial, int(time.time())), call, controls)
        shown = told(answer, call, controls)
        headers = {"Content-Type": JSON_TYPE, "x-request-id": request_id(serial), **headers}
        reply = Reply(200, headers, answer_bytes(shown, controls))
        await self._ledger.settle(_bill(serial, fate.ending, answer["usage"]))
        if fate.ending == "truncate":
            delivery.truncate(request, *reply)
            return web.Response()
        if fate.ending == "slow_loris":
            await delivery.drip(request, reply.status, reply.headers)
            return web.Response()
        if fate.ending == "garbage":
            reply = reply._replace(body=garbage_bytes(answer))
        return await self._send(request, serial, reply)

    async def _send_models(self, request: web.BaseRequest, serial: int) -> web.StreamResponse:
        model = {"id": DEFAULT_MODEL, "object": "model", "created": 0, "owned_by": "batch_infer"}
        await self._ledger.settle(Settlement(serial, "answered", 200))
        return await self._send(request, serial, json_reply(serial, {"object": "list", "data": [model]}))

    async def _refuse(
        self, request: web.BaseRequest, serial: int, error: ApiError, headers: dict[str, str]
    ) -> web.StreamResponse:
        reply = error_reply(serial, error, headers, html=self._faults.controls.html_5xx)
        await self._ledger.settle(Settlement(serial, f"error_{reply.status}", reply.status))
        return await self._send(request, serial, reply)

    async def _send(self, request: web.BaseRequest, serial: int, reply: Reply) -> web.StreamResponse:
        response = web.Response(status=reply.status, headers=reply.headers, body=reply.body)
        if await delivery.deliver(request, response):
            self._ledger.deliver(serial)
        return response


def _parse(request: web.BaseRequest, body: bytes | None) -> Call | None:
    """The call; None for the list of models. Raises ApiError (400, 404, 405, 413)."""
    parse = next((parse for end, parse in _CALLS.items() if request.path.endswith(end)), None)
    if parse is None and not request.path.endswith(_MODELS):
        raise unknown_url(request.method, request.path)
    if request.method != ("GET" if parse is None else "POST"):
        raise invalid(f"Not allowed to {request.method} on {request.path}.", status=405)
    if body is None:
        raise invalid(f"The body is larger than {MAX_BODY_BYTES} bytes.", status=413)
    return None if parse is None else parse(body)


def _bill(serial: int, ending: str, usage: dict[str, Any]) -> Settlement:
    outcome = {"answer": "answered", "truncate": "truncated"}.get(ending, ending)
    return Settlement(serial, outcome, 200, usage["prompt_tokens"], usage.get("completion_tokens", 0))
