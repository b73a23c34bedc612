"""All options as data: parser, help and shell completion read this one table.

A command line has one verb, and modifiers that go with it. Nothing here imports click, so that a
shell's completion is quick.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from batch_infer.protocol.text import Text


class Value(Enum):
    """What follows a flag."""

    NONE = "nothing"
    ONE = "one value"
    OPTIONAL = "a value or nothing"
    MANY = "one value or more"


class Completes(Enum):
    """What a shell offers for a flag's value, where it is none of a few fixed words."""

    NOTHING = "nothing"
    FILES = "files"
    FOLDERS = "folders"
    TASKS = "task ids"


class Flag(NamedTuple):
    """One flag. `goes_with` names the verbs of a modifier; empty means every verb."""

    name: str
    group: Text
    help: Text
    value: Value = Value.NONE
    metavar: str = ""
    is_verb: bool = False
    goes_with: tuple[str, ...] = ()
    completes: Completes = Completes.NOTHING
    choices: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()  # what may stand before an equals sign among its values

    @property
    def usage(self) -> str:
        """The flag with its value, as help shows it: `-cancel ID…`."""
        shape = {
            Value.NONE: "",
            Value.ONE: f" {self.metavar}",
            Value.OPTIONAL: f" [{self.metavar}]",
            Value.MANY: f" {self.metavar}…",
        }
        return f"-{self.name}{shape[self.value]}"


MODES = ("asyncio", "threading", "multiprocessing")
SETTINGS = (
    "concurrency",
    "max_concurrency",
    "rpm",
    "tpm",
    "bytes_in_flight",
    "processes",
    "mode",
    "priority",
)
DAEMON_ACTIONS = ("start", "run", "stop", "status")
SHELLS = ("bash", "zsh", "fish")

_SUBMIT = Text("Submit a task")
_WATCH = Text("Watch")
_STEER = Text("Steer")
_PROGRAM = Text("The daemon and the program")
_COMMON = Text("With other options")
GROUPS = (_SUBMIT, _WATCH, _STEER, _PROGRAM, _COMMON)

FLAGS: tuple[Flag, ...] = (
    Flag(
        "pipeline",
        _SUBMIT,
        Text("run the JSON lines of the file INPUT; the same command goes on with an unfinished task"),
        Value.ONE,
        "INPUT",
        is_verb=True,
        completes=Completes.FILES,
    ),
    Flag(
        "task-id",
        _SUBMIT,
        Text("the task's name, which becomes its folder's name"),
        Value.ONE,
        "ID",
        goes_with=("pipeline",),
        completes=Completes.TASKS,
    ),
    Flag(
        "config",
        _SUBMIT,
        Text("the config file; config.yaml in the workspace when absent (also with -resume, -doctor)"),
        Value.ONE,
        "FILE",
        goes_with=("pipeline", "resume", "doctor"),
        completes=Completes.FILES,
    ),
    Flag(
        "mode",
        _SUBMIT,
        Text("asyncio, threading or multiprocessing, in place of execution.mode (also with -resume)"),
        Value.ONE,
        "MODE",
        goes_with=("pipeline", "resume"),
        choices=MODES,
    ),
    Flag(
        "processes",
        _SUBMIT,
        Text("worker processes, or threads, in place of execution.processes (also with -resume)"),
        Value.ONE,
        "N",
        goes_with=("pipeline", "resume"),
    ),
    Flag(
        "concurrency",
        _SUBMIT,
        Text("calls at a time at first, in place of execution.concurrency (also with -resume)"),
        Value.ONE,
        "N",
        goes_with=("pipeline", "resume"),
    ),
    Flag(
        "priority",
        _SUBMIT,
        Text("-5 to 5, in place of the config's priority: its share of the account (also with -resume)"),
        Value.ONE,
        "P",
        goes_with=("pipeline", "resume"),
    ),
    Flag(
        "wait",
        _SUBMIT,
        Text("stay until the task ends, then print a summary (also with -retry)"),
        goes_with=("pipeline", "retry"),
    ),
    Flag(
        "follow",
        _SUBMIT,
        Text("as -wait, and show the progress (also with -retry; -logs -follow shows new lines)"),
        goes_with=("pipeline", "retry", "logs"),
    ),
    Flag(
        "monitor",
        _WATCH,
        Text("show the live progress of a task, or of all; Ctrl-C leaves them running"),
        Value.OPTIONAL,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag("once", _WATCH, Text("with -monitor: show the state once and end"), goes_with=("monitor",)),
    Flag("list", _WATCH, Text("list the tasks of the workspace"), is_verb=True),
    Flag(
        "status",
        _WATCH,
        Text("show a task with its chunks and batches, or the daemon and all tasks"),
        Value.OPTIONAL,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag(
        "logs",
        _WATCH,
        Text("print the log of a task"),
        Value.ONE,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag(
        "cancel",
        _STEER,
        Text("end tasks; what was answered is kept and merged"),
        Value.MANY,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag(
        "pause",
        _STEER,
        Text("stop sending the requests of a task until -resume"),
        Value.ONE,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag(
        "resume",
        _STEER,
        Text("go on with a paused task; -config F mends its credentials and limits"),
        Value.ONE,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag(
        "set",
        _STEER,
        Text(
            "change tasks while they run; KEY is concurrency, max_concurrency, rpm, tpm, bytes_in_flight, "
            "processes, mode or priority"
        ),
        Value.MANY,
        "ID KEY=VALUE",
        is_verb=True,
        completes=Completes.TASKS,
        keys=SETTINGS,
    ),
    Flag(
        "retry",
        _STEER,
        Text("try the failed and missing records of a finished task again"),
        Value.ONE,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag(
        "chunks",
        _STEER,
        Text("with -retry: only the records of these chunks, such as 3,7-9"),
        Value.MANY,
        "LIST",
        goes_with=("retry",),
    ),
    Flag(
        "daemon",
        _PROGRAM,
        Text("the workspace's daemon: start, run (in the foreground), stop or status"),
        Value.ONE,
        "ACTION",
        is_verb=True,
        choices=DAEMON_ACTIONS,
    ),
    Flag(
        "doctor",
        _PROGRAM,
        Text("check that tasks can run: with a config its service, credential and model too"),
        is_verb=True,
    ),
    Flag(
        "completion",
        _PROGRAM,
        Text("print the completion script for bash, zsh or fish"),
        Value.ONE,
        "SHELL",
        is_verb=True,
        choices=SHELLS,
    ),
    Flag("version", _PROGRAM, Text("print the version"), is_verb=True),
    Flag("help", _PROGRAM, Text("print this help; -h does the same"), is_verb=True),
    Flag(
        "workspace",
        _COMMON,
        Text("the folder of the tasks; BATCH_INFER_WORKSPACE or the current one when absent"),
        Value.ONE,
        "DIR",
        completes=Completes.FOLDERS,
    ),
    Flag(
        "json",
        _COMMON,
        Text("print JSON on the standard output"),
        goes_with=(
            "pipeline",
            "monitor",
            "list",
            "status",
            "logs",
            "cancel",
            "pause",
            "resume",
            "set",
            "retry",
            "daemon",
            "doctor",
            "version",
        ),
    ),
)

BY_NAME = {flag.name: flag for flag in FLAGS}
VERBS = tuple(flag.name for flag in FLAGS if flag.is_verb)


def find_flag(argument: str) -> Flag | None:
    """The flag that `argument` (`-name` or `--name`, without `=value`) spells; None if there is none."""
    if argument == "-h":
        return BY_NAME["help"]
    dashes = len(argument) - len(argument.lstrip("-"))
    return BY_NAME.get(argument[dashes:]) if 1 <= dashes <= 2 else None
