"""A row of a source, and the canonical line that it becomes."""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

import msgspec

from batch_inferd.backends import rawjson

INVALID = "invalid_input"
IMAGE_MISSING = "image_missing"

_log = logging.getLogger(__name__)


class BadRow(Exception):  # noqa: N818  said of the row
    """The row cannot become a request. `cls` is the class of its error record; the message is for people."""

    def __init__(self, cls: str, message: str) -> None:
        super().__init__(message)
        self.cls = cls


class Row(NamedTuple):
    """What a reader makes of a row: a conversation, or the members of a line as they stood, or an error.

    Attributes:
        index: 0-based, counted as `start_row` counts; stands in `source` as "row".
        custom_id: without the number of an iteration.
        source: the content of `$source`.
        messages: the conversation.
        members: of a line that is a request already, `"name":value` each, with nothing of ours.
        error: class and message.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a row
    custom_id: str
    source: dict[str, Any]
    messages: list[dict[str, Any]] | None = None
    members: bytes | None = None
    error: tuple[str, str] | None = None


def unexpected(error: Exception, where: str) -> tuple[str, str]:
    """The error of a row that raised what nobody thought of: it ends that row, and the log says more.

    A lack of memory is raised again.
    """
    if isinstance(error, MemoryError):
        raise error
    _log.error("unexpected trouble with a row: %s", where, exc_info=error)
    return INVALID, f"{where}: it cannot be made a request: {type(error).__name__}"


def canonical(row: Row, key: str, iteration: int | None) -> bytes:
    """The canonical line without newline. `iteration` is from 1; None where rows are not repeated."""
    custom_id, source = row.custom_id, row.source
    if iteration is not None:
        custom_id = f"{custom_id}/{iteration}"
        source = source | {"iteration": iteration}
    parts = [b'{"custom_id":', dumps(custom_id)]
    if row.error:
        cls, message = row.error
        parts += b',"$source":', dumps(source), b',"$error":', dumps({"class": cls, "message": message})
    elif row.members is not None:
        parts += b',"$source":', dumps(source)
        if row.members:
            parts += b",", row.members
    else:
        parts += b",", dumps(key), b":", dumps(row.messages), b',"$source":', dumps(source)
    parts.append(b"}")
    return b"".join(parts)


def conversation(system: str | None, text: str, images: list[str]) -> list[dict[str, Any]]:
    """The messages of a prompt with images, text first. Raises BadRow when there is nothing to ask."""
    if not text.strip() and not images:
        raise BadRow(INVALID, "the prompt is empty")
    messages: list[dict[str, Any]] = []
    if system:
        messages.append({"role": "system", "content": system})
    if not images:
        messages.append({"role": "user", "content": text})
        return messages
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text.strip() else []
    content += ({"type": "image_url", "image_url": {"url": image}} for image in images)
    messages.append({"role": "user", "content": content})
    return messages


def dumps(value: Any) -> bytes:
    """JSON; lone surrogates, which come as escapes, leave as escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def quoted_name(name: str) -> bytes:
    """A member's name and its colon."""
    return dumps(name) + b":"


def identity(raw: bytes | memoryview | None) -> str | None:
    """The text of an id that stands as raw JSON: a string, or a number as it is written."""
    if raw is None:
        return None
    data = bytes(raw)
    if data[:1] == b'"':
        value = rawjson.loads(data)
        return value if isinstance(value, str) else None
    return data.decode() if data[:1] in b"-0123456789" else None
