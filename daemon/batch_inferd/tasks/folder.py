"""A task's folder: made whole or not at all, opened by handle, recognised again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import TaskExists
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import PIPED_PREFIX
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory
from batch_inferd.store.taskdb import NAME, TaskDB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batch_infer.protocol.workspace import Workspace
    from batch_inferd.store.writer import StoreWriter

CONFIG = "config.json"
_NEW = ".new-"
_PIPED_S = 86_400.0  # since the last write to it
REMOVED = ".removed-"  # a folder of this name is being removed


def exists_error(task_id: str, why: Text | None = None) -> TaskExists:
    """The refusal of a taken task-id, with the two ways out; `why` says what stands there."""
    return TaskExists(
        Text("the file [{id}] already exists", {"id": task_id}),
        hints=(
            *([why] if why is not None else []),
            Text("choose a new task-id (recommended)"),
            Text("or remove its folders by hand: chunks/{id} and merged/{id}", {"id": task_id}),
        ),
    )


def make_data_folders(workspace: Workspace) -> None:
    """chunks/ and merged/, owner only when we make them; what a crash left half made or half removed goes."""
    for folder in (workspace.chunks, workspace.merged):
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in chain(folder.glob(f"{_NEW}*"), folder.glob(f"{REMOVED}*")):
            shutil.rmtree(left, ignore_errors=True)
    for piped in workspace.chunks.glob(f"{PIPED_PREFIX}*"):  # a client may be writing it just now
        with contextlib.suppress(OSError):
            if time.time() - piped.stat().st_mtime > _PIPED_S:
                piped.unlink()


async def create(
    writer: StoreWriter,
    workspace: Workspace,
    task_id: str,
    uuid: str,
    config: dict[str, Any],
    facts: dict[str, Any],
    taken: Sequence[tuple[str, str]] = (),
) -> None:
    """Make chunks/<task-id> with its database and config; durable when this returns.

    `taken`: files that are moved into it, (path, new name). It is built beside and renamed into place, so
    that a crash leaves the whole task or none of it. Raises TaskExists, OSError, sqlite3.Error.
    """
    final = workspace.chunks / task_id
    if _is_taken(final) or _is_taken(workspace.merged / task_id):
        raise exists_error(task_id)
    building = workspace.chunks / f"{_NEW}{uuid}"
    await asyncio.to_thread(building.mkdir, mode=0o700)
    try:
        db = await TaskDB.open(writer, building)
        try:
            await db.set_facts(**facts)
        finally:
            await db.close()
        await asyncio.to_thread(_complete, workspace, building, final, config, taken)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, building, ignore_errors=True)
        raise
    failpoint("submit.committed")


def _complete(
    workspace: Workspace,
    building: Path,
    final: Path,
    config: dict[str, Any],
    taken: Sequence[tuple[str, str]],
) -> None:
    directory = Directory(building)
    try:
        for path, name in taken:
            os.rename(path, building / name)
        write_config(directory, config)
    finally:
        directory.close()
    failpoint("submit.folder_made")
    try:
        os.rename(building, final)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise exists_error(final.name) from error
        raise
    chunks = Directory(workspace.chunks)
    try:
        chunks.sync()
    finally:
        chunks.close()


def _is_taken(path: Path) -> bool:
    return os.path.lexists(path)


def write_config(directory: Directory, config: dict[str, Any]) -> None:
    """Store the config snapshot, atomically. Raises OSError."""
    directory.write_atomic(CONFIG, json.dumps(config, indent=1).encode())


def read_config(directory: Directory) -> dict[str, Any]:
    """The config snapshot. Raises OSError, ValueError."""
    data = json.loads(directory.read(CONFIG))
    if not isinstance(data, dict):
        raise ValueError(f"{CONFIG} holds no object")  # noqa: TRY004  the file is wrong, not a type
    return data


def is_task(path: Path) -> bool:
    """Whether a folder under chunks/ holds a task (not through a symbolic link)."""
    with contextlib.suppress(OSError):
        return path.is_dir() and not path.is_symlink() and (path / NAME).exists()
    return False


def free_bytes(path: Path) -> int:
    """What an ordinary user may still write there."""
    return shutil.disk_usage(path).free


def room_errno(directory: Directory, size: int) -> int | None:
    """None if the disk takes `size` bytes, else the errno: tried, since quotas do not show in free space."""
    name = ".room"
    try:
        directory.unlink(name)
        directory.write_atomic(name, b"\0" * size)
    except OSError as error:
        return error.errno
    finally:
        for leftover in (name, f"{name}.tmp"):
            with contextlib.suppress(OSError):
                directory.unlink(leftover)
    return None
