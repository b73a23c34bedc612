"""Removing a task that has ended, with all it had: its folder and its outputs. What it has cost is kept."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError, TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.money.removed import RemovedCosts
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory
from batch_inferd.store.taskdb import Damaged
from batch_inferd.tasks import states
from batch_inferd.tasks.bill import bill_of
from batch_inferd.tasks.folder import REMOVED
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace
    from batch_inferd.tasks.registry import Registry
    from batch_inferd.tasks.task import Task

_log = logging.getLogger(__name__)


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
    """Forget the task and remove chunks/ID and merged/ID; the caller has its lock.

    What it has cost is durable before. After a crash either the task is whole, or it has lost its outputs
    only, or it is gone. Raises OSError, and TaskConflict: its cost cannot be kept.
    """
    task.log(logging.WARNING, "the task is removed, as it was asked for")
    costs = RemovedCosts(registry.context.workspace.costs)
    bill = await _bill(task)
    kept = bill is None or await in_thread(lambda: _keep(costs, task.uuid, bill))
    registry.creating.add(task.id)  # nobody opens the folder meanwhile
    try:
        await registry.forget(task)
        await in_thread(lambda: _remove(registry.context.workspace, task.id))
    finally:
        registry.creating.discard(task.id)
    if bill is not None and not kept and not await in_thread(lambda: _keep(costs, task.uuid, bill)):
        _log.error("the disk is full: the cost of the removed task %s is not kept: %s", task.id, bill)


async def _bill(task: Task) -> dict[str, Any] | None:
    try:
        return await bill_of(task, removed=task.context.clock.now())
    except (OSError, sqlite3.Error, Damaged) as error:
        task.log(logging.ERROR, f"what the task has cost cannot be read, and is not kept: {error}")
        return None


def _keep(costs: RemovedCosts, task_uuid: str, bill: dict[str, Any]) -> bool:
    """False where the disk is full: the removal makes room. Raises TaskConflict."""
    try:
        costs.keep(task_uuid, bill)
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return False
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return False
        words = {"id": bill["task_id"], "path": str(costs.path), "reason": str(error)}
        raise TaskConflict(
            Text("what {id} has cost cannot be kept in {path}: {reason}", words),
            hints=(Text("move that file away, and another one is made"),),
        ) from error
    return True


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
