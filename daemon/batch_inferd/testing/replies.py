"""What the routes below /v1 have in common: keys, and answers that are ready to go out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_inferd.testing.ledger import request_id
from batch_inferd.testing.render import JSON_TYPE, bad_gateway

if TYPE_CHECKING:
    from aiohttp import web

    from batch_inferd.testing.errors import ApiError


class Reply(NamedTuple):
    """An answer that is ready to go out."""

    status: int
    headers: dict[str, str]
    body: bytes


def sent_key(request: web.BaseRequest) -> str | None:
    """The key of `Authorization: Bearer KEY`, or of `api-key: KEY` as Azure has it."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return request.headers.get("api-key") or None


def json_reply(serial: int, data: Any) -> Reply:
    """A 200."""
    headers = {"Content-Type": JSON_TYPE, "x-request-id": request_id(serial)}
    return Reply(200, headers, msgspec.json.encode(data))


def error_reply(serial: int, error: ApiError, headers: dict[str, str], *, html: bool = False) -> Reply:
    """An error as the API words it, or as a proxy does."""
    status, kind, body = error.status, JSON_TYPE, error.encoded()
    if html and status >= 500:
        status, kind, body = bad_gateway()
    own = {"Content-Type": kind, "x-request-id": request_id(serial)}
    return Reply(status, {**own, **headers, **error.headers}, body)
