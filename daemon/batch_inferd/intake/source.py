"""The input file: what submit pins of it, and whether it still is what was pinned."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.regular import open_regular
from batch_infer.protocol.text import Text
from batch_inferd.lines import BOM, SCAN_BLOCK, BlankFinder, line_ends

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1024 * 1024
HEAD = 64 * 1024  # bytes that are looked at before a warning
HEAD_RECORDS = 100


class Pin(NamedTuple):
    """Path, identity, size (bytes) and modification time (ns) at submit; later bytes are ignored."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int

    def to_json(self) -> dict[str, Any]:
        """For the task's facts."""
        return self._asdict()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Pin:
        """The inverse of `to_json`."""
        return cls(**data)


def pin(path: str) -> Pin:
    """Look at the input. Raises InputError: missing, not readable, not a regular file."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a FIFO must not hang us
    except FileNotFoundError as error:
        raise InputError(
            Text("the input {path} does not exist", {"path": path}), hints=(Text("check the path"),)
        ) from error
    except OSError as error:
        raise InputError(
            Text(
                "the input {path} cannot be read: {error}",
                {"path": path, "error": error.strerror or str(error)},
            )
        ) from error
    try:
        info = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(info.st_mode):
        raise InputError(
            Text("the input {path} is not a file", {"path": path}),
            hints=(Text("give the path of a .jsonl file"),),
        )
    return Pin(path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


def open_pinned(pinned: Pin) -> int:
    """A descriptor of the input. Raises InputError when it is gone or shorter than it was."""
    now = pin(pinned.path)
    if now.size < pinned.size:
        raise InputError(
            Text(
                "the input {path} has become shorter: {now} bytes, at submit it had {then}",
                {"path": pinned.path, "now": now.size, "then": pinned.size},
            )
        )
    return open_regular(pinned.path)


def input_warning(path: str) -> Text | None:
    """A warning when the file begins as no JSON Lines do; the first that fits.

    UTF-16, gzip, zip, a JSON array, no record at all, or no JSON object in the first 100 records of
    its first 64 KiB. Blocks. Raises OSError.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        head = file.read(HEAD + 1)
    for magic, kind in (
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
        (b"\x1f\x8b", "gzip"),
        (b"PK\x03\x04", "zip"),
    ):
        if head.startswith(magic):
            return Text(
                "the input looks like {kind}, not like JSON Lines in UTF-8: its lines will be errors",
                {"kind": kind},
            )
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        return Text("the input begins with '[': JSON Lines has one object a line, not one array")
    whole = len(head) <= HEAD
    lines = head.removeprefix(BOM).split(b"\n")
    if not whole:
        lines.pop()  # it may be cut
    records = [line for line in lines if line.strip()][:HEAD_RECORDS]
    if not records:
        return Text("the input is empty") if whole else None
    if any(_is_object(line) for line in records):
        return None
    if len(records) == 1:
        return Text("the first line of the input is no JSON object (a CSV?)")
    return Text("none of the first {n} lines is a JSON object (a CSV?)", {"n": len(records)})


def starts_as_json(path: str) -> bool:
    """Whether the first line of a file that is not blank is a JSON object, or too long to tell.

    False for what cannot be read.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            head = file.read(HEAD + 1)
    except OSError:
        return False
    line, newline, _ = head.removeprefix(BOM).lstrip().partition(b"\n")
    return _is_object(line) if newline or len(head) <= HEAD else line.startswith(b"{")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def count_records(path: str, start: int, end: int, stop: Callable[[], bool], limit: int) -> tuple[int, bool]:
    """Records (lines that are not blank) in bytes [start, end), reading at most `limit` bytes.

    Returns the count and whether it is of the whole range.
    """
    count = 0
    finder = BlankFinder()
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        file.seek(start)
        left = min(end - start, limit)
        while left > 0 and not stop():
            block = file.read(min(SCAN_BLOCK, left))
            if not block:
                break
            left -= len(block)
            ends = line_ends(block)
            count += len(ends) - len(finder.blanks(block, ends))
            finder.rest(block, ends[-1] if ends else 0)
    complete = left <= 0 and end - start <= limit
    return count + (finder.filled and complete), complete
