"""Removing a task that has ended, with all it had: its folder and its outputs."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory
from batch_inferd.tasks import states
from batch_inferd.tasks.folder import REMOVED
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace
    from batch_inferd.tasks.registry import Registry
    from batch_inferd.tasks.task import Task


def why_not(task: Task) -> Text | None:
    """Why a task cannot be removed; None: it can."""
    if task.state not in states.ENDED:
        return Text("it is {state}: only tasks that have ended are removed", {"state": Text(task.state)})
    if task.facts.get("late"):
        return Text("its batches have not ended at the service: what they bring was paid for")
    return None


def check_needs_nothing_of(task: Task, path: str) -> None:
    """Raises InputError where `path` lies in a folder that goes with the task."""
    workspace, real = task.context.workspace, os.path.realpath(path)
    if any(Path(real).is_relative_to(folder / task.id) for folder in (workspace.chunks, workspace.merged)):
        raise InputError(
            Text("the input {path} would be removed with task {id}", {"path": path, "id": task.id}),
            hints=(Text("copy it to another place first"),),
        )


async def remove(registry: Registry, task: Task) -> None:
    """Forget the task and remove chunks/ID and merged/ID; the caller has its lock. Raises OSError.

    After a crash either the task is whole, or it has lost its outputs only, or it is gone.
    """
    task.log(30, "the task is removed, as it was asked for")
    registry.creating.add(task.id)  # nobody opens the folder meanwhile
    try:
        await registry.forget(task)
        await in_thread(lambda: _remove(registry.context.workspace, task.id))
    finally:
        registry.creating.discard(task.id)


def _remove(workspace: Workspace, task_id: str) -> None:
    aside = f"{REMOVED}{uuid.uuid4().hex}"
    _set_aside(workspace.merged, task_id, aside)
    failpoint("clean.outputs_set_aside")
    try:
        _set_aside(workspace.chunks, task_id, aside)
    except OSError:
        _set_aside(workspace.merged, aside, task_id)
        raise
    for folder in (workspace.merged, workspace.chunks):
        shutil.rmtree(folder / aside, ignore_errors=True)  # the next daemon removes what is left


def _set_aside(parent: Path, name: str, aside: str) -> None:
    """Rename a folder, durably; a link is removed, and what it leads to stays."""
    directory = Directory(parent)
    try:
        if directory.is_folder(name):
            directory.rename(name, aside)
        else:
            directory.unlink(name)
        directory.sync()
    finally:
        directory.close()
