"""Inputs on the command line: what -pipeline and -prepare may name, and the flags that say how it is read."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_infer.cli.context import Context

STDIN = "-"
TOPICS = "topics"  # the input of a task whose topics stand in the config or after -topic
_REMOTE = "s3://"

# Flag -> the key of the config that it stands for.
FLAGS = {
    "model": "model.name",
    "batch-size": "lines_per_chunk",
    "start-row": "input.start_row",
    "end-row": "input.end_row",
    "prompt": "input.prompt",
    "images": "input.image_folder",
    "topic": "input.topics",
    "iterations": "input.iterations",
    "done": "input.done",
}
_LISTS = frozenset({"topic"})
_PATHS = frozenset({"images", "done"})


def overrides_params(given: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, Any]:
    """The part of a request that carries such flags; nothing where there are none."""
    overrides: dict[str, str | list[str]] = {}
    for flag, words in given:
        values = [os.path.abspath(word) if flag in _PATHS else word for word in words]
        overrides[FLAGS[flag]] = values if flag in _LISTS else values[0]
    return {"overrides": overrides} if overrides else {}


def check_named(name: str) -> None:
    """Look at an input before anything is asked of a person or the daemon. Raises InputError."""
    if name != STDIN:
        input_name(name)


@contextmanager
def taken_input(context: Context, name: str) -> Iterator[dict[str, Any]]:
    """The part of a request that names the input. What comes through a pipe lies in a file meanwhile.

    Raises InputError for what is not there or cannot be read.
    """
    if name != STDIN:
        yield {"input": input_name(name)}
        return
    from batch_infer.cli.piped import discard, take

    if os.isatty(0):
        context.console.note(Text("reading from the terminal; Ctrl-D on a line of its own ends it"))
    piped = take(context.workspace)
    try:
        yield {"input": str(piped.path), "stdin": piped.digest}
    finally:
        discard(piped)


def input_name(name: str) -> str:
    """The absolute path of a file or folder, or what needs none. Raises InputError."""
    if name.startswith(_REMOTE) or (name == TOPICS and not os.path.lexists(name)):
        return name
    from batch_infer.cli.submission import check_input

    path = Path(os.path.abspath(name))
    return str(path) if name and path.is_dir() else str(check_input(name))
