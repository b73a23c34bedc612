"""The columns of a table: those of the inputs, then what became of the record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.answers import as_json
from batch_inferd.backends import rawjson
from batch_inferd.exports.origin import SOURCE, load
from batch_inferd.exports.reading import read_lines
from batch_inferd.exports.row import read_row

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

    from batch_inferd.exports.reading import Exported, Record

TASK_ID = "task_id"
RESULTS = ("answer", "finish_reason", "error", "input_tokens", "output_tokens")
_PLAIN = ("custom_id", "prompt")
_MARK = b'"%b"' % SOURCE.encode()
_EXACT = range(-(2**53), 2**53 + 1)  # what a float can hold as it is
_INT64 = range(-(2**63), 2**63)


class Columns:
    """The columns of an export of these tasks, found by a look through all of their lines.

    `inputs` maps a column of the inputs to the kinds of value in it, see `kind_of`.
    """

    def __init__(self, tasks: Sequence[Exported], stop: threading.Event | None = None) -> None:
        """Raises OSError, ExportStopped."""
        self.inputs: dict[str, set[str]] = {}
        for task in tasks:
            for _, line in read_lines(task, stop):
                self._look(line)
        self.with_task = len(tasks) > 1
        taken = {*self.inputs, *([TASK_ID] if self.with_task else [])}
        self.results = [_free(name, taken) for name in RESULTS]

    @property
    def header(self) -> list[str]:
        """The names of all columns, in order."""
        return [*([_free(TASK_ID, self.inputs)] if self.with_task else []), *self.inputs, *self.results]

    def values(self, task: Exported, record: Record) -> list[Any]:
        """A record's values in the order of the header; None where there is none."""
        origin, outcome = read_row(record, task.messages_key)
        columns = origin.columns
        return [
            *([task.task_id] if self.with_task else []),
            *[columns.get(name) for name in self.inputs],
            outcome.answer,
            outcome.finish_reason or None,
            outcome.failure or None,
            record.tokens_in,
            record.tokens_out,
        ]

    def _look(self, line: bytes) -> None:
        if _MARK not in line:
            for name in _PLAIN:
                self.inputs.setdefault(name, {"text"})
            return
        for name, value in _columns_of(line):
            kinds = self.inputs.setdefault(str(name), set())
            if value is not None:
                kinds.add(kind_of(value))


def _columns_of(line: bytes) -> Iterable[tuple[str, Any]]:
    try:
        source = load(rawjson.split_object(line).get(SOURCE, b"null"))
    except rawjson.InvalidJson:
        source = None
    if not isinstance(source, dict):
        return [(name, "") for name in _PLAIN]
    columns = source.get("columns", source)
    return columns.items() if isinstance(columns, dict) else source.items()


def _free(name: str, taken: Iterable[str]) -> str:
    """Our name of a column, where the input has none of that name; else a longer one."""
    while name in taken:
        name = f"output_{name}"
    return name


def kind_of(value: Any) -> str:
    """What kind a value is of: text, int, long (of 64 bits), float, bool, or json for all others."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int) and value in _INT64:
        return "int" if value in _EXACT else "long"
    return "float" if isinstance(value, float) and math.isfinite(value) else "json"


def cell(value: Any) -> str:
    """A value as text: text as it is, nothing for None, else JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else as_json(value)
