"""A record as a row: where it comes from, and what became of it in a few plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batch_infer.protocol.answers import read_answer
from batch_inferd.backends.rawjson import InvalidJson
from batch_inferd.exports.origin import Origin, load, read_origin
from batch_inferd.merge.index import ANSWER, ERROR, MISSING

if TYPE_CHECKING:
    from batch_inferd.exports.reading import Record

# What stands in a row without an answer: its class, and a word for people.
NEVER_ANSWERED = ("missing", "no answer of any kind came")
NOT_ENDED = ("pending", "the record has not ended")


class Outcome(NamedTuple):
    """What became of a record. `answer` is None without one; `error` and `message` are "" with one."""

    answer: str | None
    finish_reason: str
    error: str  # the class of the failure
    message: str

    @property
    def failure(self) -> str:
        """`class: message`, or nothing."""
        return f"{self.error}: {self.message}" if self.error else ""


class Row(NamedTuple):
    """A record with both sides of it."""

    origin: Origin
    outcome: Outcome


def read_row(record: Record, messages_key: str) -> Row:
    """The row of a record."""
    origin = read_origin(record.data, record.line, messages_key)
    return Row(origin, read_outcome(record.kind, record.rec))


def read_outcome(kind: int, rec: bytes) -> Outcome:
    """The outcome of a record of this kind; `rec` is its line of the outputs."""
    if kind == MISSING:
        return Outcome(None, "", *NEVER_ANSWERED)
    if kind not in (ANSWER, ERROR):
        return Outcome(None, "", *NOT_ENDED)
    try:
        line = load(rec)
    except InvalidJson:  # our own writers checked it; a journal that was edited by hand may hold anything
        return Outcome(None, "", "unreadable", "its line in the journal cannot be read")
    if kind == ERROR:
        error = line.get("error") or {}
        return Outcome(None, "", str(error.get("code")), str(error.get("message")))
    answer = read_answer((line.get("response") or {}).get("body"))
    return Outcome(answer.text, answer.finish_reason, "", "")
