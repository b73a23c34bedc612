"""Steering tasks: their state, their settings, their rounds, their end."""

from __future__ import annotations

from batch_infer.cli.options.flag import (
    FILE,
    TASK,
    TASKS,
    TASKS_OR_ALL,
    Completes,
    Takes,
    Value,
    modifier,
    verb,
)
from batch_infer.protocol.text import Text

SETTINGS = (
    "concurrency",
    "max_concurrency",
    "rpm",
    "tpm",
    "bytes_in_flight",
    "processes",
    "mode",
    "priority",
    "budget",
    "log_dir",
    "log_level",
)
RETRIED = ("failed", "missing", "invalid")

FLAGS = (
    verb("cancel", Text("end tasks; what was answered is kept and merged"), TASKS),
    verb("pause", Text("stop sending the requests of a task until -resume"), TASK),
    verb("resume", Text("go on with a paused task; -config F mends its credentials and limits"), TASK),
    verb(
        "set",
        Text(
            "change tasks while they run; KEY is concurrency, max_concurrency, rpm, tpm, bytes_in_flight, "
            "processes, mode, priority, budget, log_dir or log_level"
        ),
        Takes(Value.MANY, "ID KEY=VALUE", completes=Completes.TASKS, keys=SETTINGS),
    ),
    verb("retry", Text("try the failed and missing records of a finished task again"), TASK),
    modifier(
        "chunks",
        Text("with -retry: only the records of these chunks, such as 3,7-9"),
        "retry",
        takes=Takes(Value.MANY, "LIST"),
    ),
    modifier(
        "only",
        Text("with -retry: only the records that failed, those that nothing came for, or invalid answers"),
        "retry",
        takes=Takes(Value.ONE, "WORD", choices=RETRIED),
    ),
    modifier(
        "rows",
        Text("with -retry: only the records that FILE names, a row number from 0 or a custom_id a line"),
        "retry",
        takes=FILE,
    ),
    verb(
        "clean",
        Text("remove tasks that have ended, all of them or some, with all their answers; asks first"),
        TASKS_OR_ALL,
    ),
    modifier("keep-latest", Text("with -clean: keep the newest of them"), "clean"),
    modifier("yes", Text("with -clean and -cleanup: do not ask"), "clean", "pipeline"),
)
