"""From a request to its answer: find the handler, run it, and turn every outcome into a frame."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from batch_infer.protocol import frames, rpc
from batch_infer.protocol.errors import BatchInferError, InternalError, ProtocolError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.server.peer import Handler, Peer

_log = logging.getLogger(__name__)


class Request:
    """A checked request: an id to answer to, a method's name, and its params."""

    def __init__(self, message: dict[str, Any]) -> None:
        """Raises ProtocolError when `message` is no request."""
        self.id = message.get("id")
        method, params = message.get("method"), message.get("params", {})
        if not isinstance(self.id, int | str) or not isinstance(method, str) or not isinstance(params, dict):
            raise ProtocolError(Text("a message is neither a request nor an answer"))
        self.method = method
        self.params: dict[str, Any] = params


async def answer(handlers: Mapping[str, Handler], request: Request, peer: Peer) -> bytes:
    """The frame that answers `request`. A bug in the handler is logged and answered; never raises."""
    handler = handlers.get(request.method)
    if handler is None:
        return failure(
            request.id, ProtocolError(Text("unknown request {name}", {"name": request.method[:64]}))
        )
    try:
        result = await handler(request.params, peer)
    except BatchInferError as error:
        return failure(request.id, error)
    except Exception:  # noqa: BLE001  whatever it is, the client gets an answer
        _log.exception("the request %s failed", request.method)
        return failure(request.id, _bug(request.method))
    try:
        return frames.encode(rpc.result(request.id, result))
    except (ProtocolError, TypeError, ValueError):
        # Too large (nothing in an answer may grow with a task), or no JSON.
        _log.exception("the answer to %s cannot be sent", request.method)
        return failure(request.id, _bug(request.method))


def failure(call_id: Any, error: BatchInferError) -> bytes:
    """The frame of an error answer; of a shorter one where the error itself is too large."""
    try:
        return frames.encode(rpc.failure(call_id, error.to_wire()))
    except (ProtocolError, TypeError, ValueError):
        _log.exception("an error cannot be sent: %.1000s", error)
        return frames.encode(
            rpc.failure(call_id, type(error)(Text("the error is too long to be told")).to_wire())
        )


def _bug(method: str) -> InternalError:
    return InternalError(
        Text("the daemon failed at {method}: a bug", {"method": method}),
        hints=(Text("the stack trace stands in logs/daemon_*.log"),),
    )
