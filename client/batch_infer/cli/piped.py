"""What comes through a pipe: it comes once, so it is safe on the disk before the daemon is asked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import uuid
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import PIPED_PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from batch_infer.protocol.workspace import Workspace

_BLOCK = 1024 * 1024


class Piped(NamedTuple):
    """A file among the tasks' folders, and the SHA-256 of its content in hex."""

    path: Path
    digest: str


def take(workspace: Workspace, stream: BinaryIO | None = None) -> Piped:
    """Read `stream` (standard input) to its end into a file (0600) that survives a loss of power.

    Raises InputError when it cannot be written. Whatever ends it early, no file stays.
    """
    source = sys.stdin.buffer if stream is None else stream
    path = workspace.chunks / f"{PIPED_PREFIX}{uuid.uuid4().hex}"
    digest = hashlib.sha256()
    try:
        workspace.chunks.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    view = memoryview(block)
                    while view:
                        view = view[file.write(view) or 0 :]
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            Text(
                "the standard input cannot be kept in {path}: {reason}", {"path": str(path), "reason": reason}
            )
        ) from error
    return Piped(path, digest.hexdigest())


def discard(piped: Piped) -> None:
    """Remove the file, unless the daemon has made it a task's own."""
    with contextlib.suppress(OSError):
        piped.path.unlink(missing_ok=True)
