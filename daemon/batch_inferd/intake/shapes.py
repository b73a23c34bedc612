"""What a prepared file's lines look like: as they are spooled, for OpenAI's Batch API, or for Bedrock's.

A shaper makes one line of one canonical line, with the images in it; it holds one record at a time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.backends import rawjson
from batch_inferd.backends.body import ENDPOINT_OF_URL, BodyBuilder, InvalidLine
from batch_inferd.exports.origin import load
from batch_inferd.images.embed import embed
from batch_inferd.images.errors import ImageError
from batch_inferd.intake.spool import record_id
from batch_inferd.sources.row import dumps

if TYPE_CHECKING:
    from batch_inferd.images.plan import ImagePlan

BEDROCK_VERSION = "bedrock-2023-05-31"
SOURCE, ERROR = "$source", "$error"

_URLS = {endpoint: url for url, endpoint in ENDPOINT_OF_URL.items()}
_CLAUDE = re.compile(r"(^|[./:])claude-", re.IGNORECASE)
_DATA = re.compile(r"data:(?P<media>[\w.+/-]+);base64,(?P<data>.*)", re.DOTALL)


class RecordError(Exception):
    """The record cannot be in the file. `cls` is the class that its failure would have in a task."""

    def __init__(self, cls: str, message: str) -> None:
        super().__init__(message)
        self.cls = cls


class Shaper(Protocol):
    """Makes the line of a record. `number` counts records from 1."""

    def __call__(self, line: bytes, number: int, /) -> bytes:
        """The line, without newline. Raises RecordError, and InputError for what may go well later."""


def shape_of(model: str) -> str:
    """The shape that a model wants: Bedrock's for the Claude family, else OpenAI's."""
    return "bedrock" if _CLAUDE.search(model) else "openai"


def plain(line: bytes, _number: int) -> bytes:
    """As it is spooled: images stay references, what is wrong with a record stands in `$error`."""
    return line


class OpenAI:
    """`{"custom_id", "method", "url", "body"}`; `builder` knows the fields that a config adds."""

    def __init__(self, builder: BodyBuilder, images: ImagePlan) -> None:
        self._builder = builder
        self._images = images

    def __call__(self, line: bytes, number: int) -> bytes:
        """See Shaper."""
        _check(line)
        try:
            request = self._builder.build(line, number)
        except InvalidLine as error:
            raise RecordError("invalid_input", str(error)) from error
        url = msgspec.json.encode(_URLS[request.endpoint])
        body = _embedded(request.body, self._images)
        return b'{"custom_id":%b,"method":"POST","url":%b,"body":%b}' % (request.custom_id, url, body)


class Bedrock:
    """`{"recordId", "modelInput"}` with Claude's messages; `fields` go into each modelInput."""

    def __init__(self, messages_key: str, fields: dict[str, Any], images: ImagePlan) -> None:
        self._key = messages_key
        self._fields = fields
        self._images = images

    def __call__(self, line: bytes, _number: int) -> bytes:
        """See Shaper."""
        _check(line)
        try:
            raw = rawjson.split_object(line).get(self._key)
        except rawjson.InvalidJson as error:
            raise RecordError("invalid_input", str(error)) from error
        if raw is None:
            raise RecordError("invalid_input", f'the field "{self._key}" is missing')
        body = _embedded(b'{"messages":%b}' % bytes(raw), self._images)
        found = _value(body)["messages"]
        system: list[str] = []
        messages: list[dict[str, Any]] = []
        for message in found if isinstance(found, list) else []:
            if not isinstance(message, dict):
                raise RecordError("invalid_input", "a message is no object")
            role, parts = message.get("role"), _parts(message.get("content"))
            if role not in ("system", "developer"):
                messages.append({"role": role, "content": parts})
            elif all(part["type"] == "text" for part in parts):
                system += [part["text"] for part in parts]
            else:
                raise RecordError("invalid_input", "a system message can hold text only")
        model_input: dict[str, Any] = {"anthropic_version": BEDROCK_VERSION, **self._fields}
        if system:
            model_input["system"] = "\n".join(system)
        model_input["messages"] = messages
        return dumps({"recordId": record_id(line), "modelInput": model_input})


def _check(line: bytes) -> None:
    """Raises RecordError for a record that its source could not make."""
    if b'"$error"' in line:
        found = _value(line)
        if isinstance(found, dict) and isinstance(found.get(ERROR), dict):
            raise RecordError(str(found[ERROR].get("class")), str(found[ERROR].get("message")))


def _value(data: bytes) -> Any:
    try:
        return load(data)
    except rawjson.InvalidJson as error:
        raise RecordError("invalid_input", str(error)) from error


def _embedded(body: bytes, images: ImagePlan) -> bytes:
    try:
        return embed(body, images)
    except ImageError as error:
        if error.transient:
            raise InputError(
                Text("the input cannot be read: {detail}", {"detail": str(error)}),
                hints=(Text("what is written stays; the same command goes on with it"),),
            ) from error
        raise RecordError(error.cls, str(error)) from error


def _parts(content: Any) -> list[dict[str, Any]]:
    """A message's content as Claude takes it: images first where there is one text only, as it likes them."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts = [_part(part) for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    if sum(part["type"] == "text" for part in parts) == 1:
        parts.sort(key=lambda part: part["type"] == "text")
    return parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": str(part.get("text"))}
    if kind != "image_url":
        raise RecordError("invalid_input", f'a part of type "{kind}" cannot be sent to Bedrock')
    image = part.get("image_url")
    url = str(image.get("url") if isinstance(image, dict) else image)
    match = _DATA.fullmatch(url)
    if match is None:
        message = "Bedrock takes no addresses of images; set images.fetch_urls to have them fetched"
        raise RecordError("invalid_input", message)
    source = {"type": "base64", "media_type": match["media"], "data": match["data"]}
    return {"type": "image", "source": source}
