"""A JSON object that travels as it came: checked to the last byte, split at the top, never rewritten.

What counts as valid is what Python's `json` reads, without NaN and Infinity. msgspec does the work; it
refuses the escape of a lone surrogate (half an emoji, cut by some tool), so what msgspec refuses is
read once more by `json`. msgspec also skips strings without looking at their UTF-8: hence the check first.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec

decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode  # looks at no UTF-8: for ASCII only
_BLANK = " \t\r\n"


class InvalidJson(ValueError):  # noqa: N818  as json.JSONDecodeError, its message says what is wrong
    """The bytes are not UTF-8, not JSON, or not an object."""


def split_object(data: bytes) -> dict[str, bytes | memoryview]:
    """The members of a JSON object, each value as the bytes that stand in `data`.

    Of a name that comes twice, the last one counts, as it does for `json`. Raises InvalidJson.
    """
    text = check_utf8(data)
    try:
        return {name: memoryview(raw) for name, raw in decode_object(data).items()}
    except RecursionError as error:
        raise InvalidJson("nested too deeply") from error
    except (msgspec.DecodeError, UnicodeError):
        return _split_slowly(text if text is not None else data.decode())


def loads(data: bytes) -> Any:
    """The value, by Python's `json` in its strict form. Raises InvalidJson."""
    try:
        return _STRICT.decode(data.decode())
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not UTF-8 (byte {error.start + 1})") from error
    except RecursionError as error:
        raise InvalidJson("nested too deeply") from error
    except ValueError as error:
        raise InvalidJson(f"not JSON: {error}") from error


def check_utf8(data: bytes) -> str | None:
    """None for ASCII, the text otherwise. Raises InvalidJson for what is not UTF-8."""
    if data.isascii():
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not UTF-8 (byte {error.start + 1})") from error


def quote_ascii(text: str) -> bytes:
    """A JSON string with everything beyond ASCII escaped, lone surrogates included."""
    return json.dumps(text).encode()


def _refuse(name: str) -> NoReturn:
    raise InvalidJson(f"not JSON: {name} is no JSON value")


_STRICT = json.JSONDecoder(parse_constant=_refuse)


def _split_slowly(text: str) -> dict[str, bytes | memoryview]:
    try:
        return _Splitter(text).members()
    except RecursionError as error:
        raise InvalidJson("nested too deeply") from error
    except InvalidJson:
        raise
    except ValueError as error:
        raise InvalidJson(f"not JSON: {error}") from error


class _Splitter:
    """Walks over the top level of an object; `json` itself reads what stands inside."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._decoder = _STRICT

    def members(self) -> dict[str, bytes | memoryview]:
        found: dict[str, bytes | memoryview] = {}
        if self._next() != "{":
            self._decoder.decode(self._text)  # says what is wrong, if it is not JSON at all
            raise InvalidJson("not a JSON object")
        self._at += 1
        if self._next() == "}":
            self._at += 1
        else:
            while True:
                name = self._value()[0] if self._next() == '"' else self._fail("a name in quotes")
                if self._next() != ":":
                    self._fail("':'")
                self._at += 1
                self._next()
                _, raw = self._value()
                found[name] = raw
                mark = self._next()
                self._at += 1
                if mark == "}":
                    break
                if mark != ",":
                    self._at -= 1
                    self._fail("',' or '}'")
        if self._next():
            self._fail("nothing more")
        return found

    def _next(self) -> str:
        while self._text[self._at : self._at + 1] in _BLANK and self._at < len(self._text):
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _value(self) -> tuple[Any, bytes]:
        begin = self._at
        value, self._at = self._decoder.raw_decode(self._text, begin)
        return value, self._text[begin : self._at].encode()

    def _fail(self, expected: str) -> NoReturn:
        raise json.JSONDecodeError(f"Expecting {expected}", self._text, self._at)
