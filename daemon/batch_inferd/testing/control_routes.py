"""The routes below `/_`: controls and ledgers. They are neither written down, limited nor failed.

They need no secret: the service listens on loopback only, and holds nothing but tests.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiohttp import web

from batch_inferd.testing.batch_ledger import read_batches
from batch_inferd.testing.controls import ControlsError
from batch_inferd.testing.errors import ApiError, invalid, unknown_url
from batch_inferd.testing.ledger import read_ledger, summarise
from batch_inferd.testing.ledger_writer import LedgerError, LedgerWriter
from batch_inferd.testing.render import JSON_TYPE

if TYPE_CHECKING:
    from pathlib import Path

    from batch_inferd.testing.faults import Faults

_PAGE = 1000  # rows of the ledger


class Identity(NamedTuple):
    """What GET /_control says of the process, so that whoever adopts it knows it is the right one."""

    pid: int
    instance: str  # as in service.json
    version: str


class ControlRoutes:
    """GET and POST /_control, GET /_ledger?since=&limit=, GET /_ledger/summary, GET /_batches."""

    def __init__(self, state_dir: Path, identity: Identity, faults: Faults, ledger: LedgerWriter) -> None:
        self._state_dir = state_dir
        self._identity = identity
        self._faults = faults
        self._ledger = ledger

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        try:
            return _plain(await self._answer(request))
        except ControlsError as error:
            return _plain(invalid(str(error)).body(), 400)
        except LedgerError as error:
            return _plain(ApiError(500, str(error), "server_error").body(), 500)
        except ApiError as error:
            return _plain(error.body(), error.status)

    async def _answer(self, request: web.BaseRequest) -> dict[str, Any]:
        match request.method, request.path:
            case "GET", "/_control":
                return {**self._identity._asdict(), "controls": self._faults.controls.as_json()}
            case "POST", "/_control":
                return {"controls": self._faults.update(_json(await request.read())).as_json()}
            case "GET", "/_ledger":
                since, limit = _number(request, "since", 0), min(_number(request, "limit", _PAGE), _PAGE)
                await self._ledger.flush()
                rows = await asyncio.to_thread(read_ledger, self._state_dir, since, limit)
                return {"rows": [row._asdict() for row in rows]}
            case "GET", "/_ledger/summary":
                await self._ledger.flush()
                return (await asyncio.to_thread(summarise, self._state_dir))._asdict()
            case "GET", "/_batches":
                batches = await asyncio.to_thread(read_batches, self._state_dir)
                return {"batches": [row._asdict() for row in batches]}
            case _:
                raise unknown_url(request.method, request.path)


def _plain(data: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(data), content_type=JSON_TYPE)


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ControlsError(f"the controls are not JSON: {error}") from error


def _number(request: web.BaseRequest, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise invalid(f"{name} must be a number from 0, not {text!r}", param=name)
    return int(text)
