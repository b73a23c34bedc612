"""What a command line asks for, after parsing."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """A verb with its values. `ids` are task-ids as typed; verbs check them before they use them."""

    verb: str
    ids: tuple[str, ...] = ()
    input: str = ""
    choice: str = ""  # of -daemon and -completion
    chunks: tuple[tuple[int, int], ...] = ()  # of -retry: first and last numbers; empty means all
    overrides: tuple[tuple[str, tuple[str, ...]], ...] = ()  # flags such as -model, with their values
    shape: str | None = None  # of -prepare
    settings: tuple[str, ...] = ()  # KEY=VALUE words, of -set and of flags such as -concurrency
    config: str | None = None
    out: str | None = None  # the file of -export and -prepare
    format: str | None = None
    encoding: str | None = None
    workspace: str | None = None
    wait: bool = False
    follow: bool = False
    once: bool = False
    only: str | None = None  # of -retry: which of the records that were not answered
    rows: str | None = None  # of -retry: the file that names some of them
    repair: bool = False
    schema: str | None = None  # of -validate: the file of a JSON Schema
    keep_latest: bool = False
    yes: bool = False
    cleanup: bool = False
    as_json: bool = False
