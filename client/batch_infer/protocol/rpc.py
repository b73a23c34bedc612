"""JSON-RPC 2.0 messages, the protocol's version range, and the names of all requests.

A conversation, as it stands on the wire:

1. The client connects. The daemon says nothing.
2. The client sends `hello {protocol: [min, max], secret, version}` within 5 s, in at most 4 KiB.
3. The daemon answers `{protocol, version, pid, started}`, or an error: a wrong secret ends the
   connection; `incompatible` leaves it open for `daemon.status` and `daemon.stop`, whose shapes never
   change.
4. The client sends requests, each with an id of its own; answers carry that id, in any order.
5. After `subscribe`, the daemon pushes `progress` notifications: the latest state wins, none queue up.
   A request that may take long is answered at its end; until then it pushes `working` notifications.
6. Either side closes. Nothing that was accepted depends on the connection.
"""

from __future__ import annotations

from typing import Any

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

HELLO = "hello"
DAEMON_STATUS = "daemon.status"
DAEMON_STOP = "daemon.stop"
CONFIG_VARIABLES = "config.variables"
SUBMIT = "submit"
LIST = "list"
STATUS = "status"
SUBSCRIBE = "subscribe"
CANCEL = "cancel"
PAUSE = "pause"
RESUME = "resume"
RETRY = "retry"
SET_OPTIONS = "set_options"
SUBMISSIONS = "submissions"
DOCTOR = "doctor"
VALIDATE = "validate"
CLEAN = "clean"
ESTIMATE = "estimate"
COST = "cost"
EXPORT = "export"
PREPARE = "prepare"

PROGRESS = "progress"  # a notification
WORKING = "working"  # a notification while a long request is answered: {"done", "total"}

# Requests that an incompatible client may still make.
FROZEN = frozenset({DAEMON_STATUS, DAEMON_STOP})


def request(call_id: int, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request that wants an answer."""
    return {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params or {}}


def notification(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A message that wants none."""
    return {"jsonrpc": "2.0", "method": method, "params": params}


def result(call_id: Any, value: Any) -> dict[str, Any]:
    """The answer to request `call_id`."""
    return {"jsonrpc": "2.0", "id": call_id, "result": value}


def failure(call_id: Any, error: dict[str, Any]) -> dict[str, Any]:
    """The error answer to request `call_id`; `error` is `BatchInferError.to_wire()`."""
    return {"jsonrpc": "2.0", "id": call_id, "error": error}
