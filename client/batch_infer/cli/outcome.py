"""What the report of a finished task says about its errors, for the hints at its end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from batch_infer.protocol.regular import open_regular
from batch_infer.render.task_text import next_steps

if TYPE_CHECKING:
    from batch_infer.protocol.text import Text
    from batch_infer.render.shapes import Summary

REPORT = "report.json"
_CHUNKS = '  "chunks": ['  # its last member, which may be as long as the task
_HEAD_MAX = 1024 * 1024


def steps(task: Summary) -> list[Text]:
    """What to do about a task that did not end well, by its summary and its report."""
    return next_steps(task, error_classes(task))


def error_classes(task: Summary) -> tuple[str, ...]:
    """The classes of the task's errors; none while they are not known, or cannot be read."""
    if task["state"] != "completed" or not task["counts"].get("error"):
        return ()
    try:
        path = Path(task.get("outputs") or "", REPORT)
        with os.fdopen(open_regular(path, follow=False), encoding="utf-8") as file:
            head, _, _ = file.read(_HEAD_MAX).partition(_CHUNKS)
        report = json.loads(head.rstrip().removesuffix(",") + "}")
        same_round = report["round"] == task.get("round", 0)
        return tuple(report["errors"]) if same_round else ()
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # without it the hints are only less exact
