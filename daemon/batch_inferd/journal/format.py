"""The lines of a journal: how they are written, and how they are read back.

    {"k":"answer","line":12,"round":0,"attempt":1,"t":…,"ms":532,"in":12,"out":34,"path":"online","rec":{…},"crc":"…"}
    {"k":"answer",…,"in":12,"out":34,"cached":8,"path":"online","rec":{…},"crc":"…"}
    {"k":"error","line":12,"round":0,"attempt":4,"t":…,"class":"server","rec":{…},"crc":"…"}
    {"k":"missing","line":12,"round":0,"attempt":4,"t":…,"crc":"…"}
    {"k":"attempt","line":12,"round":0,"attempt":1,"t":…,"class":"server","status":503,"message":"…",
     "not_before":…,"charged":true,"strikes":0,"outages":0,"crc":"…"}
    {"k":"attempt",…,"outages":0,"move":"online","submission":"7","crc":"…"}
    {"k":"taken_back","line":12,"round":1,"t":…,"crc":"…"}
    {"k":"index",…,"crc":"…"}

`cached`, `move` and `submission` stand only where they say something. An index is of no record, and may
be the last line of a journal that is sealed (see `index.py`). What takes an answer back stands in a
journal of its own kind, which is read before all others (see `names.py`).

`line` is the line's number in the whole input, from 1; `t` and `not_before` are seconds since 1970;
`crc` is the CRC-32 of all bytes before `,"crc":"`. `rec` is the line for output.jsonl or the error file
(see `record.py`), always the last member before `crc`, and never parsed: it is found by its position.
"""

from __future__ import annotations

import zlib
from typing import Annotated

import msgspec

REC = b',"rec":'  # in a JSON text it can only be a member's name: in a string its quotes would be escaped
TAIL = len(b',"crc":"01234567"}')
INDEX = b'{"k":"index",'  # how the line of an index begins
MESSAGE_BYTES = 1000  # of a failed attempt's message; the last one stands whole in the error record

_json = msgspec.json.encode
_PATHS = {path: _json(path) for path in ("online", "batch")}
_Line = Annotated[int, msgspec.Meta(ge=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class DamagedLine(Exception):  # noqa: N818  said of the line
    """A journal's line that cannot be believed: wrong checksum, not JSON, or of another shape."""


class Answer(msgspec.Struct, tag_field="k", tag="answer"):
    """Terminal: the service answered. `ms` is the call's time in milliseconds.

    `tokens_cached` of `tokens_in` came from the service's cache.
    """

    line: _Line
    round: _Count
    attempt: _Count
    t: float
    ms: int
    tokens_in: int | None = msgspec.field(name="in")
    tokens_out: int | None = msgspec.field(name="out")
    path: str  # "online" or "batch"
    tokens_cached: int = msgspec.field(name="cached", default=0)
    rec: msgspec.Raw = msgspec.Raw(b"")


class Failure(msgspec.Struct, tag_field="k", tag="error"):
    """Terminal: the record failed for good. `failure` is the class of the last attempt."""

    line: _Line
    round: _Count
    attempt: _Count
    t: float
    failure: str = msgspec.field(name="class")
    rec: msgspec.Raw = msgspec.Raw(b"")


class Missing(msgspec.Struct, tag_field="k", tag="missing"):
    """Terminal: no answer of any kind ever came."""

    line: _Line
    round: _Count
    attempt: _Count
    t: float


class Attempt(msgspec.Struct, tag_field="k", tag="attempt"):
    """A failed attempt, not terminal. `charged`: it used up a retry; `strikes` and `outages` so far.

    `move` is "online" where online calls finish the record from now on, with all their retries.
    `submission` is the batch of an attempt that was made in one.
    """

    line: _Line
    round: _Count
    attempt: _Count
    t: float
    failure: str = msgspec.field(name="class")
    status: int | None
    message: str
    not_before: float
    charged: bool
    strikes: _Count
    outages: _Count
    move: str = ""
    submission: str = ""


class TakenBack(msgspec.Struct, tag_field="k", tag="taken_back"):
    """From `round` on, the record has not ended by what stands there of earlier rounds.

    What came before was paid for all the same: tokens and attempts of it count.
    """

    line: _Line
    round: _Count
    t: float


Entry = Answer | Failure | Missing | Attempt | TakenBack
_decode_head = msgspec.json.Decoder(Entry).decode


def seal(head: bytes) -> bytes:
    """A line with its newline: `head` is its JSON without the last brace."""
    return head + b',"crc":"%08x"}\n' % zlib.crc32(head)


def _number(value: int | None) -> bytes:
    return b"null" if value is None else b"%d" % value


def text_bytes(text: str, limit: int | None = None) -> bytes:
    """`text` as a JSON string of ours: lone surrogates become `?`, at most `limit` bytes before quoting."""
    data = text.encode("utf-8", "replace")
    if limit is not None and len(data) > limit:
        data = data[:limit]
    return _json(data.decode("utf-8", "ignore"))


def encode_answer(
    *,
    line: int,
    round: int,  # noqa: A002  as the journal names it
    attempt: int,
    t: float,
    ms: int,
    tokens_in: int | None,
    tokens_out: int | None,
    path: str,
    rec: bytes,
    tokens_cached: int | None = None,
) -> bytes:
    """A journal line, with its newline. `rec` comes from `record.output_line`."""
    out = b'%b,"cached":%d' % (_number(tokens_out), tokens_cached) if tokens_cached else _number(tokens_out)
    return seal(
        b'{"k":"answer","line":%d,"round":%d,"attempt":%d,"t":%.3f,"ms":%d,"in":%b,"out":%b,"path":%b,"rec":%b'
        % (line, round, attempt, t, ms, _number(tokens_in), out, _PATHS.get(path) or _json(path), rec)
    )


def encode_error(
    *,
    line: int,
    round: int,  # noqa: A002
    attempt: int,
    t: float,
    failure: str,
    rec: bytes,
) -> bytes:
    """A journal line, with its newline. `failure` is the class, `rec` comes from `record.error_line`."""
    return seal(
        b'{"k":"error","line":%d,"round":%d,"attempt":%d,"t":%.3f,"class":%b,"rec":%b'
        % (line, round, attempt, t, _json(failure), rec)
    )


def encode_missing(*, line: int, round: int, attempt: int, t: float) -> bytes:  # noqa: A002
    """A journal line, with its newline."""
    return seal(b'{"k":"missing","line":%d,"round":%d,"attempt":%d,"t":%.3f' % (line, round, attempt, t))


def encode_taken_back(*, line: int, round: int, t: float) -> bytes:  # noqa: A002
    """A journal line, with its newline."""
    return seal(b'{"k":"taken_back","line":%d,"round":%d,"t":%.3f' % (line, round, t))


def encode_attempt(
    *,
    line: int,
    round: int,  # noqa: A002
    attempt: int,
    t: float,
    failure: str,
    status: int | None,
    message: str,
    not_before: float,
    charged: bool,
    strikes: int,
    outages: int,
    move: str = "",
    submission: str = "",
) -> bytes:
    """A journal line, with its newline. The message is cut at `MESSAGE_BYTES`."""
    moved = b',"move":' + _json(move) if move else b""
    of = b',"submission":' + _json(submission) if submission else b""
    return seal(
        b'{"k":"attempt","line":%d,"round":%d,"attempt":%d,"t":%.3f,"class":%b,"status":%b,"message":%b,'
        b'"not_before":%.3f,"charged":%b,"strikes":%d,"outages":%d%b%b'
        % (
            line, round, attempt, t, _json(failure), _json(status), text_bytes(message, MESSAGE_BYTES),
            not_before, _json(charged), strikes, outages, moved, of,
        )
    )  # fmt: skip


def decode(line: bytes) -> Entry:
    """The entry of a line, with or without its newline; `rec` is the raw bytes. Raises DamagedLine."""
    line = line.removesuffix(b"\n")
    sealed = line[:-TAIL]
    if not is_sealed(zlib.crc32(sealed), line[-TAIL:]):
        raise DamagedLine("the checksum does not fit")
    entry, rec_at = decode_head(sealed)
    if isinstance(entry, (Answer, Failure)):
        entry.rec = msgspec.Raw(sealed[rec_at:])
    return entry


def is_sealed(crc: int, tail: bytes) -> bool:
    """Whether a line's last `TAIL` bytes are the seal for `crc`, the checksum of all bytes before them."""
    return tail == b',"crc":"%08x"}' % crc


def decode_head(data: bytes, begin: int = 0, end: int | None = None) -> tuple[Entry, int]:
    """The entry of a line without its `rec`, and where `rec` begins in `data` (0 where there is none).

    data[begin:end] is a line without its seal, or as much of it as surely goes beyond `"rec":`. Raises
    DamagedLine.
    """
    found = data.find(REC, begin, end)
    try:
        entry = _decode_head(data[begin : found if found >= 0 else end] + b"}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedLine(str(error)) from error
    if isinstance(entry, (Answer, Failure)) != (found >= 0):
        raise DamagedLine("a terminal record and its line for the outputs do not go together")
    return entry, found + len(REC) if found >= 0 else 0
