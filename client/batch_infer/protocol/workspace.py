"""Where things lie in a workspace, and which task-ids may name a folder in it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import NamedTuple

from batch_infer.protocol.errors import TaskIdError, UsageError
from batch_infer.protocol.text import Text

TASK_ID_MAX_BYTES = 128
CONFIG_NAME = "config.yaml"
PIPED_PREFIX = ".stdin-"  # in chunks/: what came through a pipe, until it is a task's
# Windows keeps these names for devices, with any extension; a workspace may be shared with it.
_DEVICE_NAMES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}
)


class Workspace(NamedTuple):
    """The paths of one workspace; `root` is absolute and real."""

    root: Path

    @property
    def chunks(self) -> Path:
        """All state of all tasks, a folder each."""
        return self.root / "chunks"

    @property
    def merged(self) -> Path:
        """The outputs, a folder a task."""
        return self.root / "merged"

    @property
    def logs(self) -> Path:
        """Dated logs of the tasks and of the daemon."""
        return self.root / "logs"

    @property
    def workers(self) -> Path:
        """A lock file a worker."""
        return self.root / ".workers"

    @property
    def lock(self) -> Path:
        """Held for the daemon's whole life; never unlinked."""
        return self.root / ".daemon.lock"

    @property
    def start_lock(self) -> Path:
        """Held by the one client that starts a daemon, and by a daemon that ends for idleness."""
        return self.root / ".daemon.start.lock"

    @property
    def beacon(self) -> Path:
        """`.daemon.json`: where the daemon can be reached. Advisory."""
        return self.root / ".daemon.json"

    @property
    def test_service(self) -> Path:
        """State of the embedded test service."""
        return self.root / ".testservice"

    @property
    def costs(self) -> Path:
        """What removed tasks have cost."""
        return self.root / ".costs.db"

    def has_tasks(self) -> bool:
        """Whether any task folder stands here (without asking a daemon)."""
        try:
            with os.scandir(self.chunks) as entries:
                return any(entry.is_dir(follow_symlinks=False) for entry in entries)
        except FileNotFoundError:
            return False


def find_workspace(option: str | None = None) -> Workspace:
    """`-workspace DIR`, else BATCH_INFER_WORKSPACE, else the current directory.

    Raises UsageError when that is no folder.
    """
    chosen = option or os.environ.get("BATCH_INFER_WORKSPACE") or "."
    root = Path(os.path.realpath(chosen))
    if root.exists() and not root.is_dir():
        raise UsageError(
            Text("the workspace {path} is not a folder", {"path": str(root)}),
            hints=(Text("name a folder: -workspace DIR"),),
        )
    if not root.exists():
        raise UsageError(
            Text("the workspace {path} does not exist", {"path": str(root)}),
            hints=(Text("create it first: mkdir -p {path}", {"path": str(root)}),),
        )
    return Workspace(root)


def check_task_id(task_id: str) -> str:
    """The task-id, if it can be a folder's name: letters of any script, digits, `.`, `_`, `-`.

    Raises TaskIdError: empty, over 128 bytes of UTF-8, a leading dot, another character, or a name
    that Windows keeps for a device.
    """
    if not task_id:
        raise TaskIdError(
            Text("task-id must not be empty"), hints=(Text('name the task: -task-id "my_task"'),)
        )
    rule = Text("a task-id has letters, digits, '.', '_' and '-', at most 128 bytes, and no leading dot")
    for char in task_id:
        if not (char in "._-" or unicodedata.category(char)[0] in "LN" or unicodedata.category(char) == "Mn"):
            raise TaskIdError(
                Text(
                    "the task-id {id!r} has a character that is not allowed: {char!r}",
                    {"id": task_id, "char": char},
                ),
                hints=(rule,),
            )
    if task_id.startswith(".") or task_id.endswith("."):
        raise TaskIdError(
            Text("the task-id {id!r} begins or ends with a dot", {"id": task_id}), hints=(rule,)
        )
    size = len(task_id.encode())
    if size > TASK_ID_MAX_BYTES:
        raise TaskIdError(
            Text("the task-id is {size} bytes long, allowed are 128", {"size": size}), hints=(rule,)
        )
    if task_id.split(".", maxsplit=1)[0].lower() in _DEVICE_NAMES:
        raise TaskIdError(
            Text("the task-id {id!r} is the name of a Windows device", {"id": task_id}), hints=(rule,)
        )
    if task_id.startswith("-"):
        raise TaskIdError(
            Text("the task-id {id!r} begins with '-', as an option does", {"id": task_id}), hints=(rule,)
        )
    return task_id
