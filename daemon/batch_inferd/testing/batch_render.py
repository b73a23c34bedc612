"""How batches and their lines look: as OpenAI's, or in the dialects that controls ask for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from batch_inferd.testing.render import NOTE

if TYPE_CHECKING:
    from batch_inferd.testing.batch_rows import Batch
    from batch_inferd.testing.controls import Controls
    from batch_inferd.testing.errors import ApiError
    from batch_inferd.testing.file_rows import File

TOKEN_KEY = "batch_infer_token"  # noqa: S105  where in a batch's metadata its token stands
_UNDONE = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
}


def file_object(file: File) -> dict[str, Any]:
    """A file as the routes give it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created),
        "expires_at": _whole(file.expires),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(batch: Batch, problems: str | None, controls: Controls) -> dict[str, Any]:
    """A batch as the routes give it; `controls` are those of its creation."""
    state = controls.first_state if batch.state == "created" else batch.state
    absent = "" if controls.batch_blank_ids else None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": None if problems is None else {"object": "list", "data": msgspec.Raw(problems.encode())},
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": state.upper() if controls.batch_upper_states else state,
        "output_file_id": batch.output_file or absent,
        "error_file_id": batch.error_file or absent,
        "created_at": int(batch.created),
        "in_progress_at": _whole(batch.in_progress_at),
        "expires_at": int(batch.expires),
        "finalizing_at": _whole(batch.finalizing_at),
        "completed_at": _whole(batch.completed_at),
        "failed_at": _whole(batch.failed_at),
        "expired_at": _whole(batch.expired_at),
        "cancelling_at": _whole(batch.cancelling_at),
        "cancelled_at": _whole(batch.cancelled_at),
        "request_counts": None
        if controls.batch_null_counts
        else {"total": batch.lines or 0, "completed": batch.completed, "failed": batch.failed},
        "metadata": None if batch.metadata is None else msgspec.Raw(batch.metadata.encode()),
    }


def page(objects: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A list of at most `limit` of the objects; one more than that says that there are more."""
    shown = objects[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(objects) > limit,
    }


class LineWriter:
    """Writes the result lines of one batch, each with its newline."""

    def __init__(self, number: int, controls: Controls) -> None:
        self._number = number  # the batch's
        self._controls = controls

    def answered(self, line: int, custom_id: Any, answer: dict[str, Any]) -> bytes:
        """A line of the output file."""
        controls = self._controls
        if controls.pretty:
            answer = {**answer, "note": NOTE}
        body = msgspec.json.encode(answer)
        if (short := controls.oversize_bytes - len(body)) > 0:
            body = msgspec.json.encode({**answer, "padding": "x" * short})
        own = b"%08x%08x" % (self._number, line)
        name = msgspec.json.encode(custom_id)
        if controls.batch_body_string:
            body = msgspec.json.encode(body.decode())
        tail = b"}}\n" if controls.batch_no_error_key else b'},"error":null}\n'
        return (
            b'{"id":"batch_req_%b","custom_id":%b,"response":{"status_code":200,"request_id":"req_%b","body":%b%b'
            % (own, name, own, body, tail)
        )

    def refused(self, line: int, custom_id: Any, error: ApiError) -> bytes:
        """A line of the error file: the request was answered with an error."""
        told: dict[str, Any] = {"id": self._id(line), "custom_id": custom_id}
        if self._controls.batch_error_line == "with_response":
            body: Any = error.body()
            if self._controls.batch_body_string:
                body = msgspec.json.encode(body).decode()
            told["response"] = {
                "status_code": error.status,
                "request_id": f"req_{self._number:08x}{line:08x}",
                "body": body,
            }
            if not self._controls.batch_no_error_key:
                told["error"] = None
        else:
            if self._controls.batch_error_line == "response_null":
                told["response"] = None
            told["error"] = {"code": error.code or error.kind, "message": error.message}
        return msgspec.json.encode(told) + b"\n"

    def undone(self, line: int, custom_id: Any, code: str) -> bytes:
        """A line of the error file: the request was never executed."""
        told: dict[str, Any] = {"id": self._id(line), "custom_id": custom_id, "response": None}
        if self._controls.batch_error_line == "no_response":
            del told["response"]
        told["error"] = {"code": code, "message": _UNDONE[code]}
        return msgspec.json.encode(told) + b"\n"

    def unknown(self, index: int) -> bytes:
        """A result for an id that was never sent. Every other one looks like an id of batch_infer."""
        custom_id = f"unknown-{index}" if index % 2 else f"r{10**12 + index}"
        return self.answered(0, custom_id, {"object": "chat.completion", "choices": [], "usage": {}})

    def _id(self, line: int) -> str:
        return f"batch_req_{self._number:08x}{line:08x}"


def dice_of(controls: Controls, *about: Any) -> random.Random:
    """Dice that fall alike in every life of the service."""
    return random.Random("/".join(str(item) for item in (controls.seed, *about)))  # noqa: S311  repeatable


def _whole(time: float | None) -> int | None:
    return None if time is None else int(time)
