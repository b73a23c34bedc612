"""Reading a task's log: `logs/<task-id>_YYYYMMDD_HHMMSS.log`, and `.1`, `.2` … that it was rotated to.

It stands in another folder where the config that is kept with the task says so.

The file is opened anew for each look: on Windows, a reader that keeps it open would stop its rotation.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_infer.protocol.workspace import Workspace

_BLOCK = 64 * 1024


def find_log(workspace: Workspace, task_id: str) -> Path | None:
    """The log of the task, else of the newest task of that id; None when there is none."""
    try:
        kept = json.loads((workspace.chunks / task_id / "config.json").read_bytes())
        named = kept["config"]["logging"].get("dir")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        named = None  # it is gone, damaged, or of an earlier version
    elsewhere = newest_log(Path(named), task_id) if isinstance(named, str) else None
    return elsewhere or newest_log(workspace.logs, task_id)


def newest_log(logs: Path, task_id: str) -> Path | None:
    """The log of the newest task of that id; None when there is none."""
    pattern = re.compile(re.escape(task_id) + r"_\d{8}_\d{6}\.log")
    try:
        names = [name for name in os.listdir(logs) if pattern.fullmatch(name)]
    except OSError:
        return None
    return logs / max(names) if names else None


def rotated(path: Path) -> list[Path]:
    """The older parts of a log, the oldest first."""
    found: list[Path] = []
    while (older := path.with_name(f"{path.name}.{len(found) + 1}")).exists():
        found.append(older)
    return found[::-1]


class Place(NamedTuple):
    """How far a log was read: which file, and how many of its bytes."""

    inode: int
    offset: int


def read_lines(path: Path, place: Place | None) -> Iterator[tuple[list[str], Place]]:
    """The whole lines from `place` (None: the start) on, in blocks, each with the place after it.

    When the file was rotated since, the rest of the old part comes first.
    """
    if place is not None and _inode(path) != place.inode:
        for older in reversed(rotated(path)):
            if _inode(older) == place.inode:
                yield from _blocks(older, place.offset)
        place = None
    yield from _blocks(path, place.offset if place else 0)


def _blocks(path: Path, offset: int) -> Iterator[tuple[list[str], Place]]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        inode = os.fstat(file.fileno()).st_ino
        file.seek(offset)
        part = b""
        while block := file.read(_BLOCK):
            *whole, part = (part + block).split(b"\n")
            offset += sum(len(line) + 1 for line in whole)
            if whole:
                yield [line.decode("utf-8", "replace") for line in whole], Place(inode, offset)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
