"""Inputs, outputs and money."""

from __future__ import annotations

from batch_infer.cli.options.flag import (
    FILE,
    FOLDER,
    INPUT,
    NUMBER,
    TASK_OR_ALL,
    TASKS,
    Completes,
    Takes,
    Value,
    modifier,
    verb,
)
from batch_infer.protocol.exports import ENCODINGS, FORMATS
from batch_infer.protocol.shapes import SHAPES
from batch_infer.protocol.text import Text

READING = ("pipeline", "prepare", "estimate")  # verbs that read an input

FLAGS = (
    verb(
        "prepare",
        Text("write the requests of INPUT, images and all, to the file of -out; goes on where it was ended"),
        INPUT,
    ),
    modifier("model", Text("the model, in place of model.name"), *READING, takes=Takes(Value.ONE, "NAME")),
    modifier("batch-size", Text("records a chunk, in place of lines_per_chunk"), "pipeline", takes=NUMBER),
    modifier("start-row", Text("the first row that is taken, from 0"), *READING, takes=NUMBER),
    modifier("end-row", Text("the first row that is not taken any more"), *READING, takes=NUMBER),
    modifier(
        "prompt",
        Text("what to ask of each row, image or topic; a column's name in braces stands for its text"),
        *READING,
        takes=Takes(Value.ONE, "TEXT"),
    ),
    modifier("images", Text("the folder that the images of a table are relative to"), *READING, takes=FOLDER),
    modifier(
        "topic",
        Text("topics to run the prompt over, in place of an INPUT"),
        *READING,
        takes=Takes(Value.MANY, "TEXT"),
    ),
    modifier("iterations", Text("how often each row or topic is asked about"), *READING, takes=NUMBER),
    modifier("done", Text("an earlier output: what it answers is left out"), *READING, takes=FILE),
    verb(
        "export",
        Text("write the records of tasks that have ended, in the order of the input, to the file of -out"),
        TASKS,
    ),
    modifier("out", Text("with -export and -prepare: the file to write"), "export", "prepare", takes=FILE),
    modifier(
        "shape",
        Text("with -prepare: openai (when absent), bedrock, or plain: as a task's own input"),
        "prepare",
        takes=Takes(Value.ONE, "SHAPE", choices=SHAPES),
    ),
    modifier(
        "format",
        Text("with -export: jsonl, qa, csv, tsv, parquet, json, html or svg; by FILE's name when absent"),
        "export",
        takes=Takes(Value.ONE, "FORMAT", choices=tuple(FORMATS)),
    ),
    modifier(
        "encoding",
        Text("with -export: utf-8-sig (csv has it when absent: for Excel), utf-8 or gb18030"),
        "export",
        takes=Takes(Value.ONE, "NAME", choices=ENCODINGS),
    ),
    verb(
        "validate",
        Text("check the outputs of a task, of all that have ended, or any output file"),
        Takes(Value.OPTIONAL, "ID or FILE", completes=Completes.TASKS),
    ),
    modifier(
        "repair",
        Text("with -validate: rebuild what is damaged from the journals, and keep a backup of it"),
        "validate",
    ),
    modifier(
        "schema",
        Text("with -validate: the JSON Schema that the answers have to follow, in place of output.schema"),
        "validate",
        takes=FILE,
    ),
    verb(
        "estimate",
        Text("say what INPUT would cost with the config: records, tokens, batches, time; sends nothing"),
        INPUT,
    ),
    verb(
        "cost",
        Text("show what a task, or all tasks, have cost: by model, by day, by task, and in total"),
        TASK_OR_ALL,
    ),
)
