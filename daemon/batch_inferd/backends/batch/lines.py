"""The lines of packed files and of result files, in every dialect of the OpenAI family.

A result line is `{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}`. Seen
in the wild, and read as well: no `response` or a null one, no `error`, a body that is a JSON string, a
status that is one, an error that is a bare string, CRLF, a byte order mark.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from batch_inferd.backends import rawjson, reply
from batch_inferd.backends.batch.provider import ResultLine
from batch_inferd.lines import BOM

_NOTHING = frozenset({b"", b"null"})
_NO_ERROR = _NOTHING | {b"{}", b"[]", b'""', b"false"}
_CONTENT = ("choices", "data", "output")

# Python's str.splitlines, which many servers use, ends a line at these as well. Inside a JSON string,
# the only place where they can stand, the escape means the same.
_SEPARATORS = ((b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"), (b"\xc2\x85", rb"\u0085"))

_Fields = dict[str, bytes | memoryview]
_decode = msgspec.json.Decoder().decode


def encode_line(key: bytes, url: str, body: bytes, *, bare: bool = False) -> bytes:
    """The line of a packed file, with its newline; the body's values stay as they stand.

    `bare` leaves method and url away.
    """
    if b"\n" in body or b"\r" in body:  # between tokens: JSON allows them nowhere else
        body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    if not body.isascii():
        for raw, escape in _SEPARATORS:
            if raw in body:
                body = body.replace(raw, escape)
    if bare:
        return b'{"custom_id":"%b","body":%b}\n' % (key, body)
    return b'{"custom_id":"%b","method":"POST","url":%b,"body":%b}\n' % (key, _quoted(url), body)


def decode_line(line: bytes) -> ResultLine:
    """Read a line of a result file. Raises ValueError: not a JSON object in UTF-8."""
    fields = rawjson.split_object(line.removeprefix(BOM).strip())
    result = ResultLine(key=_key(fields))
    response = _object(fields.get("response"))
    if response is not None:
        _read_response(response, result)
    error = bytes(fields.get("error", b""))
    if error not in _NO_ERROR:
        _read_error(error, result)
    if result.status is None and result.body is not None and not result.code and not result.message:
        result.status = 200
    return result


@lru_cache(16)
def _quoted(url: str) -> bytes:
    return msgspec.json.encode(url)


def _key(fields: _Fields) -> str | None:
    value = _value(fields.get("custom_id"))
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _read_response(response: _Fields, result: ResultLine) -> None:
    status = _value(response.get("status_code"))
    if isinstance(status, str) and status.isascii() and status.isdigit() and len(status) == 3:
        status = int(status)
    if isinstance(status, int) and 100 <= status <= 599:
        result.status = status
    request_id = _value(response.get("request_id"))
    result.request_id = request_id if isinstance(request_id, str) and request_id else None
    if "body" in response:
        result.body = _body(bytes(response["body"]))
    elif any(name in response for name in _CONTENT):  # the response is the body itself
        inside = b",".join(b"%b:%b" % (_name(name), bytes(raw)) for name, raw in response.items())
        result.body = b"{%b}" % inside


def _name(name: str) -> bytes:
    try:
        return msgspec.json.encode(name)
    except UnicodeEncodeError:
        return rawjson.quote_ascii(name)


def _body(raw: bytes) -> bytes | None:
    """The raw JSON of a body, taken out of the string that some servers put it into; None for nothing."""
    if raw in _NOTHING:
        return None
    if raw[:1] != b'"':
        return raw
    text = _value(raw)
    if not isinstance(text, str):
        return raw
    try:
        inner = text.strip().encode()
        rawjson.split_object(inner)
    except ValueError:  # a text after all, or one that holds half a surrogate pair
        return raw if text else None
    return inner


def _read_error(raw: bytes, result: ResultLine) -> None:
    info = reply.read_error(raw)
    result.code = info.code or info.kind
    result.message = info.message
    if not result.code and not result.message:
        result.message = raw[:500].decode("utf-8", "replace")
    if result.status is None and result.code.isascii() and result.code.isdigit() and len(result.code) == 3:
        status = int(result.code)
        result.status = status if 400 <= status <= 599 else None


def _object(raw: bytes | memoryview | None) -> _Fields | None:
    if raw is None:
        return None
    data = bytes(raw)
    if data[:1] == b'"':  # an object in a string, as bodies come
        data = _body(data) or b""
    return rawjson.split_object(data) if data[:1] == b"{" else None


def _value(raw: bytes | memoryview | None) -> Any:
    """The value of a small member; None where it is none that can be read."""
    if raw is None:
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass  # such as half a surrogate pair, which `json` reads
    try:
        return rawjson.loads(bytes(raw))
    except rawjson.InvalidJson:
        return None
