"""What an input line says of its origin: its id, the columns of its row, its prompt and its images.

Lines that were made from a source (a table, a folder, topics …) carry it as `$source`; of a plain line it
is its custom_id and what the user says last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from batch_infer.protocol.answers import as_json
from batch_inferd.backends import rawjson
from batch_inferd.backends.body import custom_id_of

SOURCE = "$source"
ERROR = "$error"
_SHOWN = 32  # of a data: URL, which holds a whole image


class Origin(NamedTuple):
    """An input line, apart from what became of it.

    `columns` are those of the input: of a table its own, else what `$source` says, else custom_id and
    prompt. `id` is as the input has it: a number stays one.
    """

    custom_id: str
    columns: dict[str, Any]
    id: Any
    prompt: str
    images: list[str]


def read_origin(line: bytes, number: int, messages_key: str) -> Origin:
    """The origin of input line `number` (from 1), whatever stands in it. Never raises."""
    custom_id = str(load(custom_id_of(line, number)))
    try:
        fields = rawjson.split_object(line)
    except rawjson.InvalidJson:
        fields = {}
    messages = _messages(fields, messages_key)
    prompt, images = _last_text(messages), _images(messages)
    source = _value(fields, SOURCE)
    if not isinstance(source, dict):
        return Origin(custom_id, {"custom_id": custom_id, "prompt": prompt}, custom_id, prompt, images)
    columns = source.get("columns")
    if isinstance(columns, dict):
        return Origin(custom_id, columns, custom_id, prompt, images)
    if isinstance(source.get("images"), list):
        images = [str(image) for image in source["images"]]
    prompt = str(source.get("input_prompt", prompt))
    return Origin(custom_id, source, source.get("id", custom_id), prompt, images)


def image_references(line: bytes, messages_key: str) -> list[str]:
    """The references of the images in an input line as they stand in its messages. Never raises."""
    try:
        fields = rawjson.split_object(line)
    except rawjson.InvalidJson:
        return []
    return _images(_messages(fields, messages_key))


def load(data: bytes | memoryview) -> Any:
    """A JSON value, read quickly where that is possible. Raises rawjson.InvalidJson."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return rawjson.loads(bytes(data))


def _value(fields: dict[str, bytes | memoryview], name: str) -> Any:
    raw = fields.get(name)
    try:
        return None if raw is None else load(raw)
    except rawjson.InvalidJson:
        return None


def _messages(fields: dict[str, bytes | memoryview], messages_key: str) -> Any:
    """The conversation of an own line or of a batch line; of an embedding its input."""
    if messages_key in fields:
        return _value(fields, messages_key)
    body = _value(fields, "body")
    if isinstance(body, dict):
        return body.get("messages", body.get("input"))
    return None


def _last_text(messages: Any) -> str:
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, list):
        return ""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            return "".join(part["text"] for part in _parts(content) if isinstance(part.get("text"), str))
    return "" if any(isinstance(message, dict) for message in messages) else as_json(messages)


def _images(messages: Any) -> list[str]:
    found: list[str] = []
    for message in messages if isinstance(messages, list) else ():
        for part in _parts(message.get("content")) if isinstance(message, dict) else ():
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            if isinstance(url, str):
                found.append(f"{url[:_SHOWN]}…" if url.startswith("data:") else url)
    return found


def _parts(content: Any) -> list[dict[str, Any]]:
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
