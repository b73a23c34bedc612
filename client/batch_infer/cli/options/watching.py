"""Watching tasks."""

from __future__ import annotations

from batch_infer.cli.options.flag import TASK, TASK_OR_ALL, modifier, verb
from batch_infer.protocol.text import Text

FLAGS = (
    verb(
        "monitor",
        Text("show the live progress of a task, or of all; Ctrl-C leaves them running"),
        TASK_OR_ALL,
    ),
    modifier("once", Text("with -monitor: show the state once and end"), "monitor"),
    verb("list", Text("list the tasks of the workspace")),
    verb("status", Text("show a task with its chunks and batches, or the daemon and all tasks"), TASK_OR_ALL),
    verb("logs", Text("print the log of a task"), TASK),
)
