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
    settings: tuple[str, ...] = ()  # KEY=VALUE words, of -set and of flags such as -concurrency
    config: str | None = None
    workspace: str | None = None
    wait: bool = False
    follow: bool = False
    once: bool = False
    as_json: bool = False
