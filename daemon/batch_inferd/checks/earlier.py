"""The error files of earlier `-retry` rounds: they stay as history, and should be as they were published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.checks.findings import Finding
from batch_inferd.checks.outcome import MISSING, FileCheck
from batch_inferd.merge.publish import is_error_file

if TYPE_CHECKING:
    import sqlite3

    from batch_inferd.merge.outputs import FileFacts
    from batch_inferd.tasks.task import Task

EARLIER = "earlier"  # what a finding about such a file is called


async def earlier_files(task: Task, newest: dict[str, Any]) -> list[FileCheck]:
    """What is to be looked at beside the files of the newest publication. Raises sqlite3.Error."""

    def work(db: sqlite3.Connection) -> dict[str, FileFacts]:
        query = "SELECT files FROM publications WHERE done IS NOT NULL ORDER BY generation"
        found: dict[str, FileFacts] = {}
        for row in db.execute(query):
            found |= json.loads(row[0])["files"]
        return found

    published = await task.db.read(work)
    names = (name for name in sorted(published) if is_error_file(name) and name not in newest)
    return [FileCheck(name, published[name], earlier=True) for name in names]


def explain(check: FileCheck) -> None:
    """What is wrong with such a file, which is missing or damaged: its journals tell of later rounds too."""
    if check.is_file:
        first = Finding("missing", Text("it is not there"))
        if check.state != MISSING:
            first = Finding("edited", Text("it is not what was written"))
        check.findings = [first]
    check.findings += [Finding(EARLIER, Text("it is of an earlier round, and cannot be rebuilt"))]
