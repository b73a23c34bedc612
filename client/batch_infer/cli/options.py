"""All options as data: parser, help and shell completion read this one table.

A command line has one verb, and modifiers that go with it. Nothing here imports click, so that a
shell's completion is quick.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from batch_infer.protocol.exports import ENCODINGS, FORMATS
from batch_infer.protocol.shapes import SHAPES
from batch_infer.protocol.text import Text


class Value(Enum):
    """What follows a flag."""

    NONE = "nothing"
    ONE = "one value"
    OPTIONAL = "a value or nothing"
    MANY = "one value or more"
    ANY = "values or nothing"

    @property
    def is_list(self) -> bool:
        """Whether several may follow."""
        return self in (Value.MANY, Value.ANY)

    @property
    def may_be_empty(self) -> bool:
        """Whether the flag may stand alone though it takes values."""
        return self in (Value.OPTIONAL, Value.ANY)


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
            Value.ANY: f" [{self.metavar}…]",
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
    "log_dir",
    "log_level",
)
LEVELS = ("debug", "info", "warning", "error")
RETRIED = ("failed", "missing")
DAEMON_ACTIONS = ("start", "run", "stop", "status")
SHELLS = ("bash", "zsh", "fish")

_SUBMIT = Text("Submit a task")
_WATCH = Text("Watch")
_STEER = Text("Steer")
_DATA = Text("Inputs, outputs and money")
_PROGRAM = Text("The daemon and the program")
_COMMON = Text("With other options")
GROUPS = (_SUBMIT, _WATCH, _STEER, _DATA, _PROGRAM, _COMMON)

_READING = ("pipeline", "prepare", "estimate")  # verbs that read an input

FLAGS: tuple[Flag, ...] = (
    Flag(
        "pipeline",
        _SUBMIT,
        Text("run INPUT: a file, a table, a folder, s3:// or -; the same command goes on with its task"),
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
        Text("the config file; config.yaml in the workspace when absent (also with -resume, -prepare …)"),
        Value.ONE,
        "FILE",
        goes_with=("pipeline", "resume", "prepare", "estimate", "doctor"),
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
        "log-dir",
        _SUBMIT,
        Text("the folder of the task's log, in place of logging.dir (also with -resume)"),
        Value.ONE,
        "DIR",
        goes_with=("pipeline", "resume"),
        completes=Completes.FOLDERS,
    ),
    Flag(
        "log-level",
        _SUBMIT,
        Text("debug, info, warning or error, in place of logging.level (also with -resume)"),
        Value.ONE,
        "LEVEL",
        goes_with=("pipeline", "resume"),
        choices=LEVELS,
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
        "cleanup",
        _SUBMIT,
        Text("remove the task of that ID first, with all its answers, if it has ended; asks as -clean does"),
        goes_with=("pipeline",),
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
            "processes, mode, priority, log_dir or log_level"
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
        "only",
        _STEER,
        Text("with -retry: only the records that failed, or only those that nothing came for"),
        Value.ONE,
        "WORD",
        goes_with=("retry",),
        choices=RETRIED,
    ),
    Flag(
        "rows",
        _STEER,
        Text("with -retry: only the records that FILE names, a row number from 0 or a custom_id a line"),
        Value.ONE,
        "FILE",
        goes_with=("retry",),
        completes=Completes.FILES,
    ),
    Flag(
        "clean",
        _STEER,
        Text("remove tasks that have ended, all of them or some, with all their answers; asks first"),
        Value.ANY,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag("keep-latest", _STEER, Text("with -clean: keep the newest of them"), goes_with=("clean",)),
    Flag(
        "yes",
        _STEER,
        Text("with -clean and -cleanup: do not ask"),
        goes_with=("clean", "pipeline"),
    ),
    Flag(
        "prepare",
        _DATA,
        Text("write the requests of INPUT, images and all, to the file of -out; goes on where it was ended"),
        Value.ONE,
        "INPUT",
        is_verb=True,
        completes=Completes.FILES,
    ),
    Flag(
        "model",
        _DATA,
        Text("the model, in place of model.name"),
        Value.ONE,
        "NAME",
        goes_with=_READING,
    ),
    Flag(
        "batch-size",
        _DATA,
        Text("records a chunk, in place of lines_per_chunk"),
        Value.ONE,
        "N",
        goes_with=("pipeline",),
    ),
    Flag(
        "start-row",
        _DATA,
        Text("the first row that is taken, from 0"),
        Value.ONE,
        "N",
        goes_with=_READING,
    ),
    Flag(
        "end-row",
        _DATA,
        Text("the first row that is not taken any more"),
        Value.ONE,
        "N",
        goes_with=_READING,
    ),
    Flag(
        "prompt",
        _DATA,
        Text("what to ask of each row, image or topic; a column's name in braces stands for its text"),
        Value.ONE,
        "TEXT",
        goes_with=_READING,
    ),
    Flag(
        "images",
        _DATA,
        Text("the folder that the images of a table are relative to"),
        Value.ONE,
        "DIR",
        goes_with=_READING,
        completes=Completes.FOLDERS,
    ),
    Flag(
        "topic",
        _DATA,
        Text("topics to run the prompt over, in place of an INPUT"),
        Value.MANY,
        "TEXT",
        goes_with=_READING,
    ),
    Flag(
        "iterations",
        _DATA,
        Text("how often each row or topic is asked about"),
        Value.ONE,
        "N",
        goes_with=_READING,
    ),
    Flag(
        "done",
        _DATA,
        Text("an earlier output: what it answers is left out"),
        Value.ONE,
        "FILE",
        goes_with=_READING,
        completes=Completes.FILES,
    ),
    Flag(
        "export",
        _DATA,
        Text("write the records of tasks that have ended, in the order of the input, to the file of -out"),
        Value.MANY,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag(
        "out",
        _DATA,
        Text("with -export and -prepare: the file to write"),
        Value.ONE,
        "FILE",
        goes_with=("export", "prepare"),
        completes=Completes.FILES,
    ),
    Flag(
        "shape",
        _DATA,
        Text("with -prepare: openai (when absent), bedrock, or plain: as a task's own input"),
        Value.ONE,
        "SHAPE",
        goes_with=("prepare",),
        choices=SHAPES,
    ),
    Flag(
        "format",
        _DATA,
        Text("with -export: jsonl, qa, csv, tsv, parquet or json; by the name of FILE when absent"),
        Value.ONE,
        "FORMAT",
        goes_with=("export",),
        choices=tuple(FORMATS),
    ),
    Flag(
        "encoding",
        _DATA,
        Text("with -export: utf-8-sig (csv has it when absent: for Excel), utf-8 or gb18030"),
        Value.ONE,
        "NAME",
        goes_with=("export",),
        choices=ENCODINGS,
    ),
    Flag(
        "validate",
        _DATA,
        Text("check the outputs of a task, of all that have ended, or any output file"),
        Value.OPTIONAL,
        "ID or FILE",
        is_verb=True,
        completes=Completes.TASKS,
    ),
    Flag(
        "repair",
        _DATA,
        Text("with -validate: rebuild what is damaged from the journals, and keep a backup of it"),
        goes_with=("validate",),
    ),
    Flag(
        "schema",
        _DATA,
        Text("with -validate: the JSON Schema that the answers have to follow"),
        Value.ONE,
        "FILE",
        goes_with=("validate",),
        completes=Completes.FILES,
    ),
    Flag(
        "estimate",
        _DATA,
        Text("say what INPUT would cost with the config: records, tokens, batches, time; sends nothing"),
        Value.ONE,
        "INPUT",
        is_verb=True,
        completes=Completes.FILES,
    ),
    Flag(
        "cost",
        _DATA,
        Text("show what a task, or all tasks, have cost: by model, by day, by task, and in total"),
        Value.OPTIONAL,
        "ID",
        is_verb=True,
        completes=Completes.TASKS,
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
            "clean",
            "validate",
            "prepare",
            "export",
            "estimate",
            "cost",
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
