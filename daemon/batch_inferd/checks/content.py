"""Reading through an output file: is each line what it should be, and what do the answers look like?"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.backends.rawjson import InvalidJson
from batch_inferd.checks.answers import ANSWER, ERROR, Judged, judge
from batch_inferd.checks.findings import Finding, Noted, finding
from batch_inferd.checks.repeats import RepeatFinder, Repeats
from batch_inferd.checks.scratch import scratch
from batch_inferd.checks.textfile import TextLine, digest_of, text_lines

if TYPE_CHECKING:
    from collections.abc import Callable

_REASONS = 100  # different finish reasons that are counted apart
_OTHERS = "…"


class Stopped(Exception):  # noqa: N818  it was asked for
    """Nobody waits for the outcome any more."""


@dataclass(slots=True)
class Tick:
    """How far a check is, in bytes; written by its thread, read by whoever shows it."""

    done: int = 0
    total: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def add(self, size: int) -> None:
        """So many more bytes are done. Raises Stopped."""
        self.done += size
        if self.stop.is_set():
            raise Stopped


@dataclass(slots=True)
class Content:
    """What stands in a file. Lines are numbered from 1."""

    bytes: int = 0
    sha256: str = ""
    lines: int = 0
    blank: Noted = field(default_factory=Noted)
    answers: int = 0
    errors: int = 0
    invalid: Noted = field(default_factory=Noted)  # no JSON object
    without_id: Noted = field(default_factory=Noted)
    cut_line: int | None = None  # the last line, if it has no newline and is no JSON
    finish: Counter[str] = field(default_factory=Counter)
    empty: Noted = field(default_factory=Noted)
    cut: Noted = field(default_factory=Noted)  # answers that ended at a limit of tokens
    refused: Noted = field(default_factory=Noted)  # by the schema
    refusal: str = ""  # what the schema said about the first of them
    repeated_lines: Repeats = field(default_factory=lambda: Repeats(Noted(), ()))
    repeated_ids: Repeats = field(default_factory=lambda: Repeats(Noted(), ()))

    def to_wire(self) -> dict[str, Any]:
        """The figures, for programs."""
        return {
            "lines": self.lines,
            "blank": self.blank.count,
            "answers": self.answers,
            "errors": self.errors,
            "finish_reasons": dict(self.finish.most_common()),
            "empty": _noted(self.empty),
            "cut": _noted(self.cut),
            "repeated_ids": _noted(self.repeated_ids.noted),
        }


def read_content(fd: int, tick: Tick, accepts: Callable[[str], str | None] | None = None) -> Content:
    """Read all of a file from where `fd` stands. Blocks; memory does not grow with it.

    `accepts` says what is wrong with the text of an answer (None: nothing). Raises OSError,
    sqlite3.Error, Stopped.
    """
    content = Content()
    digest = hashlib.sha256()

    def seen(data: bytes) -> None:
        digest.update(data)
        content.bytes += len(data)
        tick.add(len(data))

    with scratch() as db:
        repeats = RepeatFinder(db)
        for line in text_lines(fd, seen):
            content.lines += 1
            judged = _judge(content, line)
            if judged is None:
                continue
            if judged.key is None:
                content.without_id.add(line.number)
            else:
                repeats.add(digest_of(judged.key.encode("utf-8", "surrogatepass")), line.digest, line.number)
            _count(content, line.number, judged, accepts)
        content.repeated_lines, content.repeated_ids = repeats.lines(), repeats.ids()
    content.sha256 = digest.hexdigest()
    return content


def _judge(content: Content, line: TextLine) -> Judged | None:
    if line.data is not None and not line.data.strip():
        content.blank.add(line.number)
        return None
    try:
        if line.data is None:
            raise InvalidJson("too long")  # noqa: TRY301  as every other line that cannot be read
        return judge(line.data)
    except InvalidJson:
        if line.ended:
            content.invalid.add(line.number)
        else:
            content.cut_line = line.number
        return None


def _count(
    content: Content, number: int, judged: Judged, accepts: Callable[[str], str | None] | None
) -> None:
    if judged.kind == ERROR:
        content.errors += 1
    if judged.kind != ANSWER:
        return
    content.answers += 1
    if judged.finish:
        known = judged.finish in content.finish or len(content.finish) < _REASONS
        content.finish[judged.finish if known else _OTHERS] += 1
    if judged.cut:
        content.cut.add(number)
    if judged.empty:
        content.empty.add(number)
    elif accepts is not None and (problem := accepts(judged.text)) is not None:
        content.refused.add(number)
        content.refusal = content.refusal or problem


def damage(content: Content) -> list[Finding]:
    """What is wrong with a file of which nothing else is known."""
    found: list[Finding] = []
    if content.cut_line is not None:
        text = Text("it is cut off in the middle of line {line}", {"line": content.cut_line})
        found.append(Finding("truncated", text, 1, (content.cut_line,)))
    if content.invalid.count:
        one = Text("line {line} is no JSON object")
        found.append(
            finding("not_json", content.invalid, one, Text("{n} lines are no JSON objects: lines {lines}"))
        )
    noted, of = content.repeated_lines
    if noted.count:
        one = Text("line {line} is line {first} once more")
        more = Text("{n} lines stand in it more than once: lines {lines}; line {line} is line {first}")
        found.append(finding("duplicated", noted, one, more, of))
    noted, of = content.repeated_ids
    if noted.count:
        one = Text("line {line} has the id of line {first}, and another answer")
        more = Text(
            "{n} lines have the id of an earlier one: lines {lines}; line {line} that of line {first}"
        )
        found.append(finding("duplicated_ids", noted, one, more, of))
    if content.without_id.count:
        one = Text("line {line} has no id")
        found.append(
            finding("without_id", content.without_id, one, Text("{n} lines have no id: lines {lines}"))
        )
    return found


def answers_that_fail(content: Content) -> list[Finding]:
    """Answers that are of no use."""
    found: list[Finding] = []
    if content.empty.count:
        one = Text("the answer in line {line} is empty")
        found.append(finding("empty", content.empty, one, Text("{n} answers are empty: lines {lines}")))
    if content.cut.count:
        one = Text("the answer in line {line} ended at the limit of tokens")
        more = Text("{n} answers ended at the limit of tokens: lines {lines}")
        found.append(finding("cut", content.cut, one, more))
    if content.refused.count:
        detail = {"detail": content.refusal}
        one = Text("the answer in line {line} does not follow the schema: {detail}", detail)
        more = Text(
            "{n} answers do not follow the schema: lines {lines}; the first of them: {detail}", detail
        )
        found.append(finding("schema", content.refused, one, more))
    return found


def _noted(noted: Noted) -> dict[str, Any]:
    return {"count": noted.count, "lines": list(noted.lines)}
