"""Submitting a task."""

from __future__ import annotations

from batch_infer.cli.options.flag import FILE, FOLDER, INPUT, NUMBER, TASK, Takes, Value, modifier, verb
from batch_infer.protocol.text import Text

MODES = ("asyncio", "threading", "multiprocessing")
LEVELS = ("debug", "info", "warning", "error")

FLAGS = (
    verb(
        "pipeline",
        Text("run INPUT: a file, a table, a folder, s3:// or -; the same command goes on with its task"),
        INPUT,
    ),
    modifier("task-id", Text("the task's name, which becomes its folder's name"), "pipeline", takes=TASK),
    modifier(
        "config",
        Text("the config file; config.yaml in the workspace when absent (also with -resume, -prepare …)"),
        "pipeline",
        "resume",
        "retry",
        "prepare",
        "estimate",
        "doctor",
        takes=FILE,
    ),
    modifier(
        "mode",
        Text("asyncio, threading or multiprocessing, in place of execution.mode (also with -resume)"),
        "pipeline",
        "resume",
        takes=Takes(Value.ONE, "MODE", choices=MODES),
    ),
    modifier(
        "processes",
        Text("worker processes, or threads, in place of execution.processes (also with -resume)"),
        "pipeline",
        "resume",
        takes=NUMBER,
    ),
    modifier(
        "concurrency",
        Text("calls at a time at first, in place of execution.concurrency (also with -resume)"),
        "pipeline",
        "resume",
        takes=NUMBER,
    ),
    modifier(
        "priority",
        Text("-5 to 5, in place of the config's priority: its share of the account (also with -resume)"),
        "pipeline",
        "resume",
        takes=Takes(Value.ONE, "P"),
    ),
    modifier(
        "log-dir",
        Text("the folder of the task's log, in place of logging.dir (also with -resume)"),
        "pipeline",
        "resume",
        takes=FOLDER,
    ),
    modifier(
        "log-level",
        Text("debug, info, warning or error, in place of logging.level (also with -resume)"),
        "pipeline",
        "resume",
        takes=Takes(Value.ONE, "LEVEL", choices=LEVELS),
    ),
    modifier(
        "wait", Text("stay until the task ends, then print a summary (also with -retry)"), "pipeline", "retry"
    ),
    modifier(
        "follow",
        Text("as -wait, and show the progress (also with -retry; -logs -follow shows new lines)"),
        "pipeline",
        "retry",
        "logs",
    ),
    modifier(
        "cleanup",
        Text("remove the task of that ID first, with all its answers, if it has ended; asks as -clean does"),
        "pipeline",
    ),
)
