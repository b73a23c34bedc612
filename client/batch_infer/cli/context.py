"""What every verb gets: the workspace, the console, the way to the daemon, the time."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from batch_infer.protocol.errors import TaskIdError, TaskNotFound
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace, check_task_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from batch_infer.render.console import Console


class Peer(Protocol):
    """An open connection to a daemon, as `batch_infer.connection.Connection` is one."""

    def call(self, method: str, params: dict[str, Any] | None = None, timeout: float = ...) -> dict[str, Any]:
        """The result of a request, within `timeout` seconds (a minute unless told).

        Raises BatchInferError: what the daemon says, or DaemonUnavailable.
        """

    def call_long(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        tell: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """As `call`, for what may take hours; `tell` is given what the daemon says meanwhile."""

    def subscribe(self, tasks: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """The states of tasks (None: of all), then each change. Raises DaemonUnavailable when it ends."""

    def wait_closed(self, timeout: float) -> bool:
        """Whether the daemon ends within `timeout` seconds."""

    def close(self) -> None:
        """End the connection."""


class Start(Protocol):
    """Connects to a workspace's daemon."""

    def __call__(self, workspace: Workspace, *, with_worker: bool = False) -> Peer:
        """It is started if need be; `with_worker`: with a worker that is ready soon, as work is to come."""


def _start(workspace: Workspace, *, with_worker: bool = False) -> Peer:
    from batch_infer.launch import connect_or_start

    return connect_or_start(workspace, with_worker=with_worker)


def _find(workspace: Workspace) -> Peer | None:
    from batch_infer.launch import connect_existing

    return connect_existing(workspace)


def _find_any(workspace: Workspace) -> Peer | None:
    from batch_infer.launch import connect_existing

    return connect_existing(workspace, any_version=True)


def _stopped(workspace: Workspace) -> bool:
    from batch_infer.protocol import beacon

    found = beacon.read(workspace.beacon)
    return found is None or found.stopping


@dataclass(frozen=True)
class Context:
    """What a verb works with; tests pass their own connections, environment and time."""

    workspace: Workspace
    console: Console
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    start: Start = _start
    find: Callable[[Workspace], Peer | None] = _find
    find_any: Callable[[Workspace], Peer | None] = _find_any  # of whatever version
    stopped: Callable[[Workspace], bool] = _stopped  # on purpose: a crash leaves its beacon behind
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @contextmanager
    def daemon(self, *, with_worker: bool = False) -> Iterator[Peer]:
        """A connection to the workspace's daemon, which is started if need be: see `Start`."""
        with _closing(self.start(self.workspace, with_worker=with_worker)) as peer:
            yield peer

    @contextmanager
    def daemon_of_tasks(self, other: Path | None = None) -> Iterator[Peer | None]:
        """A connection, or None where no daemon runs and no task is there that one could tell about.

        So a look into an empty workspace starts no process and creates no file. `other` is a file that one
        could tell about, too.
        """
        peer = self.find(self.workspace)
        if peer is None and (self.workspace.has_tasks() or (other is not None and other.exists())):
            peer = self.start(self.workspace)
        if peer is None:
            yield None
            return
        with _closing(peer):
            yield peer

    @contextmanager
    def daemon_of_task(self, task_id: str) -> Iterator[Peer]:
        """As `daemon_of_tasks` for one task. Raises TaskNotFound where there is none at all."""
        self.check_known(task_id)
        with self.daemon_of_tasks() as peer:
            if peer is None:
                raise self.not_found(task_id)
            yield peer

    def check_known(self, task_id: str) -> None:
        """Raises TaskNotFound for a name that no task can have."""
        try:
            check_task_id(task_id)
        except TaskIdError as error:
            raise TaskNotFound(self.not_found(task_id).text, hints=(error.text,)) from error

    def not_found(self, task_id: str) -> TaskNotFound:
        """The error for a task that is not in this workspace."""
        values = {"id": task_id, "workspace": str(self.workspace.root)}
        return TaskNotFound(
            Text("there is no task {id} in {workspace}", values),
            hints=(Text("batch_infer -list shows the tasks of a workspace"),),
        )

    @property
    def lang(self) -> str:
        """The language of the shell."""
        return self.console.lang


@contextmanager
def _closing(peer: Peer) -> Iterator[Peer]:
    try:
        yield peer
    finally:
        peer.close()
