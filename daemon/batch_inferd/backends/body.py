"""Building the request of an input line: its raw values are spliced in as they stand.

Two kinds of lines are read. Our own: `{"messages": […]}` under the configured name, any other field
goes into the body. And OpenAI batch lines: `{"custom_id", "method", "url", "body"}`. The config's
defaults come first, the record's own fields win, then the profile renames and omits what its service
does not know. Numbers, escapes and white space inside the values arrive at the service byte for byte.

A line with `$error` stands for a record that could not be made of its source: it says why.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from batch_inferd.backends import rawjson
from batch_inferd.lines import BOM

if TYPE_CHECKING:
    from batch_inferd.backends.plan import RequestPlan

ENDPOINT_OF_URL = {
    "/v1/chat/completions": "chat",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
}
_URL_OF_ENDPOINT = {endpoint: url for url, endpoint in ENDPOINT_OF_URL.items()}

_Raw = bytes | memoryview | msgspec.Raw
_SHORT_NAME = 64
_ERROR = "$error"
# The classes that `$error` may name; any other one is invalid_input.
_LINE_CLASSES = frozenset(
    {"invalid_input", "too_large", "image_missing", "image_invalid", "image_too_large", "image_unreadable"}
)


class InvalidLine(ValueError):  # noqa: N818  said of the line
    """The line cannot be sent. `custom_id` is a JSON string: the user's where it could be read.

    `cls` is the class of the failure.
    """

    def __init__(self, message: str, custom_id: bytes, cls: str = "invalid_input") -> None:
        super().__init__(message)
        self.custom_id = custom_id
        self.cls = cls


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is sent for a record. `custom_id` is a JSON string for the output line."""

    endpoint: str
    body: bytes
    custom_id: bytes
    own_model: bool  # the record names a model of its own, other than the config's


class Merged(NamedTuple):
    """A record's request before it is one text: the body's fields by name, each as raw JSON."""

    endpoint: str
    fields: dict[str, _Raw]
    custom_id: bytes
    own_model: bool

    def body(self) -> bytes:
        """The body as it is sent."""
        return _join(self.fields)


class BodyBuilder:
    """Builds the requests of one plan."""

    def __init__(self, plan: RequestPlan) -> None:
        self._plan = plan
        self._omit = frozenset(plan.omit)
        self._defaults = {name: self._encode_defaults(fields) for name, fields in plan.defaults.items()}
        chat = self._defaults.get("chat", {})
        self._opening = _join(chat)[:-1] + (b"," if chat else b"")
        # A line with one of these fields is more than conversation and fields of its own.
        special = {"body", "model", "messages", _ERROR, *chat, *plan.omit, *plan.rename}
        self._special = special - {plan.messages_key}

    def _encode_defaults(self, fields: dict[str, object]) -> dict[str, _Raw]:
        return self._named({name: msgspec.json.encode(value) for name, value in fields.items()})

    def _named(self, fields: dict[str, _Raw]) -> dict[str, _Raw]:
        """Under the service's names, without what it refuses."""
        rename = self._plan.rename
        return {rename.get(name, name): raw for name, raw in fields.items() if name not in self._omit}

    def build(self, line: bytes, number: int) -> Request:
        """The request of input line `number` (from 1). Raises InvalidLine."""
        return self._build_usual(line, number) or self._build_any(line, number)

    def _build_usual(self, line: bytes, number: int) -> Request | None:
        """As `_build_any`, quicker, for lines that only add to the config's fields; None for all others."""
        if number == 1 or not line.isascii():
            return None
        try:
            fields = rawjson.decode_object(line)
        except (msgspec.DecodeError, RecursionError):
            return None
        messages = fields.pop(self._plan.messages_key, None)
        if messages is None or bytes(messages)[:1] != b"[" or not self._special.isdisjoint(fields):
            return None
        custom_id = _custom_id(fields.pop("custom_id", None), b'"%d"' % number)
        if not fields:
            return Request("chat", b'%b"messages":%b}' % (self._opening, messages), custom_id, False)
        parts: list[_Raw] = [self._opening]
        for name, raw in fields.items():
            parts += (_quoted(name), raw, b",")
        parts += (b'"messages":', messages, b"}")
        return Request("chat", b"".join(parts), custom_id, own_model=False)

    def _build_any(self, line: bytes, number: int) -> Request:
        endpoint, fields, custom_id, own_model = self.merge(line, number)
        return Request(endpoint, _join(fields), custom_id, own_model)

    def merge(self, line: bytes, number: int) -> Merged:
        """As `build`, for those who look at single fields first. Raises InvalidLine."""
        if number == 1:
            line = line.removeprefix(BOM)
        fallback = b'"%d"' % number
        try:
            fields = rawjson.split_object(line)
        except rawjson.InvalidJson as error:
            raise InvalidLine(str(error), fallback) from error
        custom_id = _custom_id(fields.pop("custom_id", None), fallback)
        if _ERROR in fields:
            raise _told(fields[_ERROR], custom_id)
        try:
            if "body" in fields and ("url" in fields or self._plan.messages_key not in fields):
                endpoint, own = self._batch_line(fields)
            else:
                endpoint, own = "chat", self._own_line(fields)
        except ValueError as error:
            raise InvalidLine(str(error), custom_id) from error
        defaults = self._defaults.get(endpoint, {})
        own = self._named(own)
        own_model = "model" in own and bytes(own["model"]) != defaults.get("model")
        return Merged(endpoint, defaults | own, custom_id, own_model)

    def _own_line(self, fields: dict[str, _Raw]) -> dict[str, _Raw]:
        key = self._plan.messages_key
        messages = fields.pop(key, None)
        if messages is None:
            raise ValueError(f'the field "{key}" is missing')
        if bytes(messages[:1]) != b"[":
            raise ValueError(f'the field "{key}" is not a list')
        return fields | {"messages": messages}

    def _batch_line(self, fields: dict[str, _Raw]) -> tuple[str, dict[str, _Raw]]:
        url = _string(fields.get("url"))
        endpoint = ENDPOINT_OF_URL.get(url or "")
        if endpoint is None:
            shown = "missing" if url is None else f'"{url[:200]}"'
            raise ValueError(f"the url is {shown}; allowed are {', '.join(ENDPOINT_OF_URL)}")
        if endpoint not in self._plan.paths:
            served = ", ".join(_URL_OF_ENDPOINT[e] for e in self._plan.paths if e in _URL_OF_ENDPOINT)
            raise ValueError(f'this service has no "{url}"; it has {served}')
        method = fields.get("method")
        if method is not None and (_string(method) or "").upper() != "POST":
            shown = bytes(method[:50]).decode("utf-8", "replace")
            raise ValueError(f"the method is {shown}; allowed is POST")
        try:
            return endpoint, rawjson.split_object(bytes(fields["body"]))
        except rawjson.InvalidJson as error:
            raise ValueError("the body is not a JSON object") from error


def custom_id_of(line: bytes, number: int) -> bytes:
    """The JSON string that stands for input line `number` in the outputs, be the line valid or not."""
    fallback = b'"%d"' % number
    if b"custom_id" not in line and b"\\u" not in line:  # only an escape could still spell it
        return fallback
    try:
        fields = rawjson.split_object(line.removeprefix(BOM) if number == 1 else line)
        return _custom_id(fields.get("custom_id"), fallback)
    except rawjson.InvalidJson:
        return fallback


def _told(raw: _Raw, custom_id: bytes) -> InvalidLine:
    """What a line's `$error` says: `{"class": …, "message": …}`."""
    try:
        told = rawjson.loads(bytes(raw))
    except rawjson.InvalidJson as error:
        return InvalidLine(str(error), custom_id)
    told = told if isinstance(told, dict) else {"message": told}
    cls = str(told.get("class"))
    return InvalidLine(str(told.get("message")), custom_id, cls if cls in _LINE_CLASSES else "invalid_input")


def _custom_id(raw: _Raw | None, fallback: bytes) -> bytes:
    """A string as it stands; a number as its text; else the line number."""
    if raw is None:
        return fallback
    data = bytes(raw)
    if data[:1] == b'"':
        return data
    if data[:1] in b"-0123456789":
        return b'"%b"' % data
    return fallback


def _string(raw: _Raw | None) -> str | None:
    if raw is None or bytes(raw[:1]) != b'"':
        return None
    value = rawjson.loads(bytes(raw))
    return value if isinstance(value, str) else None


def _join(fields: dict[str, _Raw]) -> bytes:
    parts: list[_Raw] = []
    for name, raw in fields.items():
        parts += (b"," if parts else b"{", _quoted(name), raw)
    parts.append(b"}" if parts else b"{}")
    return b"".join(parts)


def _quoted(name: str) -> bytes:
    """The name and its colon."""
    return _remembered(name) if len(name) <= _SHORT_NAME else _quote(name)


def _quote(name: str) -> bytes:
    try:
        return msgspec.json.encode(name) + b":"
    except UnicodeEncodeError:  # a lone surrogate, which came as an escape and leaves as one
        return rawjson.quote_ascii(name) + b":"


_remembered = lru_cache(1024)(_quote)  # a task's lines mostly have the same few names
