"""The lines of output.jsonl and of the error files, as bytes. A body is spliced in raw."""

from __future__ import annotations

from functools import lru_cache

from batch_inferd.journal.body import one_line
from batch_inferd.journal.format import text_bytes

RAW_BYTES = 64 * 1024  # of an input line that is shown in its error record
MESSAGE_BYTES = 16 * 1024


_quoted_id = lru_cache(64)(text_bytes)  # a task has one


def output_line(
    batch_id: str, custom_id_json: bytes, status: int, request_id: str | None, body: bytes
) -> bytes:
    """A line of output.jsonl, without newline.

    Args:
        batch_id: the task's `id` for all its lines.
        custom_id_json: a JSON string, on one line.
        status: the answer's HTTP status.
        request_id: the service's id of the request, where it told one.
        body: the answer, which `check_body` has accepted.
    """
    # As `_response` has it, in one go: this is done for each answer.
    return (
        b'{"id":%b,"custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}'
        % (
            _quoted_id(batch_id),
            custom_id_json,
            status,
            b"null" if request_id is None else text_bytes(request_id),
            one_line(body),
        )
    )


def error_line(
    batch_id: str,
    custom_id_json: bytes,
    *,
    code: str,
    message: str,
    attempts: int,
    line: int,
    status: int | None = None,
    request_id: str | None = None,
    body: bytes | None = None,
    raw: bytes | None = None,
) -> bytes:
    """A line of error_retryN.jsonl, without newline.

    Args:
        batch_id: the task's `id` for all its lines.
        custom_id_json: a JSON string, on one line.
        code: the class of the last failure.
        message: for people; cut at 16 KiB.
        attempts: how often the record was tried.
        line: its number in the input, from 1.
        status: the last answer's HTTP status; None: there was no answer, and `response` is null.
        request_id: the service's id of that request.
        body: that answer, which `check_body` has accepted; None becomes null.
        raw: the input line, when it is not valid; cut at 64 KiB, and what is not UTF-8 is replaced.
    """
    response = b"null" if status is None else _response(status, request_id, b"null" if body is None else body)
    shown = b""
    if raw is not None:
        shown = b',"raw":' + text_bytes(raw[:RAW_BYTES].decode("utf-8", "replace"))
        if len(raw) > RAW_BYTES:
            shown += b',"raw_truncated":true'
    return (
        b'{"id":%b,"custom_id":%b,"response":%b,"error":{"code":%b,"message":%b,"attempts":%d,"line":%d%b}}'
        % (
            text_bytes(batch_id), custom_id_json, response, text_bytes(code),
            text_bytes(message, MESSAGE_BYTES), attempts, line, shown,
        )
    )  # fmt: skip


def _response(status: int, request_id: str | None, body: bytes) -> bytes:
    return b'{"status_code":%d,"request_id":%b,"body":%b}' % (
        status,
        b"null" if request_id is None else text_bytes(request_id),
        one_line(body),
    )
