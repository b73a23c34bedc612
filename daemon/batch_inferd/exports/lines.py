"""Exports of one JSON object a record: the outputs' own lines, and question with answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.answers import as_json
from batch_inferd.backends.body import custom_id_of
from batch_inferd.exports.row import NEVER_ANSWERED, NOT_ENDED, read_row
from batch_inferd.journal.record import error_line
from batch_inferd.merge.index import ANSWER, MISSING

if TYPE_CHECKING:
    from batch_inferd.exports.reading import Exported, Record
    from batch_inferd.merge.outputs import OutputFile


class OutputLines:
    """`jsonl`: every record as it stands in output.jsonl or in the error file; a missing one as an error."""

    def __init__(self, out: OutputFile) -> None:
        self._out = out

    def add(self, task: Exported, _chunk: int, record: Record) -> None:
        """The next record."""
        self._out.write_line(record.rec or self._without(task, record))

    @staticmethod
    def _without(task: Exported, record: Record) -> bytes:
        code, message = NEVER_ANSWERED if record.kind == MISSING else NOT_ENDED
        return error_line(
            str(task.summary.get("batch_id", "")),
            custom_id_of(record.data, record.line),
            code=code,
            message=message,
            attempts=record.attempts,
            line=record.line,
        )

    def finish(self) -> None:
        """Nothing is left to write."""


class QuestionLines:
    """`qa`: id, prompt, images, answer and when it was answered; only of records with an answer."""

    def __init__(self, out: OutputFile) -> None:
        self._out = out

    def add(self, task: Exported, _chunk: int, record: Record) -> None:
        """The next record."""
        if record.kind != ANSWER:
            return
        row = read_row(record, task.messages_key)
        if row.outcome.answer is None:
            return
        line = {
            "id": row.origin.id,
            "input_prompt": row.origin.prompt,
            "images": row.origin.images,
            "answer": row.outcome.answer,
            "processed_at": record.t,
        }
        self._out.write_line(as_json(line).encode("utf-8", "replace"))

    def finish(self) -> None:
        """Nothing is left to write."""
