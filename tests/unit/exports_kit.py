"""A task's folder whose lines carry their source, and exports of it."""

from __future__ import annotations

import json
from typing import Any

from journal_kit import T, Task, answer, error, missing

from batch_inferd.exports.export import write_export
from batch_inferd.exports.reading import Exported


def chat(text: str, finish_reason: str = "stop", **more: Any) -> bytes:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": text} | more
    return json.dumps(
        {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}, ensure_ascii=False
    ).encode()


def line(custom_id: str, prompt: str, source: dict[str, Any] | None = None, **more: Any) -> bytes:
    """An input line as a source's spool has it; without `source` a plain one."""
    record: dict[str, Any] = {"custom_id": custom_id, "messages": [{"role": "user", "content": prompt}]}
    if source is not None:
        record["$source"] = source
    return json.dumps(record | more, ensure_ascii=False).encode() + b"\n"


def row(number: int, **columns: Any) -> bytes:
    """A line of a table's row."""
    return line(str(number), f"about {number}", {"row": number, "columns": columns})


def exported(task: Task, task_id: str = "t", **changes: Any) -> Exported:
    """The task as the exports read it."""
    summary = {"batch_id": "batch_k", "state": "completed", "started": T, "ended": T + 60}
    given: dict[str, Any] = {"chunks": lambda: iter(task.rows), "summary": summary}
    return Exported(task_id, task.directory, **(given | changes))


def export(task: Task, form: str, *others: Exported, encoding: str = "", **changes: Any) -> bytes:
    """The bytes of an export of the task, and of others behind it."""
    write_export(task.merged, "out", [exported(task, **changes), *others], form, encoding=encoding)
    path = task.merged.path / "out"
    data = path.read_bytes()
    path.unlink()
    return data


__all__ = ["answer", "chat", "error", "export", "exported", "line", "missing", "row"]
