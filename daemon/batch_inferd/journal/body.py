"""What may stand raw in our lines: a provider's body, checked without being built into objects.

msgspec skips over JSON quickly, and mostly as strictly as we need, but it accepts invalid UTF-8 in a
string that it skips, and numbers that Python's json refuses for their length. It refuses an escaped
lone surrogate (half an emoji, cut by the model), which is valid JSON that Python's json reads.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import NoReturn

import msgspec

MAX_DEPTH = 250  # nesting; jq 1.6 ends at 256, Python's json near 1,000, and the output line adds two
_MAX_DIGITS = 4300  # CPython refuses longer integers, see sys.set_int_max_str_digits
_DIGITS = b"0123456789"
_BRACKETS = b"[]{}"
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes

_skip = msgspec.json.Decoder(msgspec.Raw).decode


def check_body(body: bytes) -> str | None:
    """None if `body` is one JSON value that every reader of our lines can read; else what is wrong.

    Strict: UTF-8 without BOM, no control characters in strings, no NaN, at most `MAX_DEPTH` levels.
    CR and LF between tokens are fine here: `one_line` takes them out.
    """
    try:
        if not body.isascii():
            body.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    try:
        _skip(body)
    except RecursionError:
        return f"nested deeper than {MAX_DEPTH} levels"
    except msgspec.DecodeError as error:
        # The strict check comes second: only an escaped surrogate may be forgiven.
        if b"\\u" not in body or not _json_reads(body):
            return f"not JSON: {error}"
    return check_extent(body)


def check_extent(body: bytes) -> str | None:
    """As `check_body`, for a body that msgspec has read to its end, and whose UTF-8 is good."""
    if _is_deep(body):
        return f"nested deeper than {MAX_DEPTH} levels"
    if len(body) > _MAX_DIGITS and _may_have_long_number(body) and not _json_reads(body):
        return f"a number has more than {_MAX_DIGITS} digits"
    return None


def one_line(body: bytes) -> bytes:
    """The body without CR and LF: spaces stand where they were. For bodies that `check_body` accepts."""
    if b"\n" in body:
        body = body.replace(b"\n", b" ")
    if b"\r" in body:
        body = body.replace(b"\r", b" ")
    return body


def _json_reads(body: bytes) -> bool:
    try:
        json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_deep(body: bytes) -> bool:
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return False
    # Escapes first: then every quote that is left begins or ends a string.
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    steps = memoryview(outside.translate(_STEPS, _OTHERS)).cast("b")
    return max(accumulate(steps), default=0) > MAX_DEPTH


def _may_have_long_number(body: bytes) -> bool:
    # A run of more than _MAX_DIGITS digits covers one of every _MAX_DIGITS positions.
    for at in range(_MAX_DIGITS, len(body), _MAX_DIGITS):
        if body[at] in _DIGITS:
            around = body[at - _MAX_DIGITS + 1 : at + _MAX_DIGITS]
            left = len(around[:_MAX_DIGITS]) - len(around[:_MAX_DIGITS].rstrip(_DIGITS))
            right = len(around[_MAX_DIGITS:]) - len(around[_MAX_DIGITS:].lstrip(_DIGITS))
            if left + right > _MAX_DIGITS - 2:
                return True
    return False
