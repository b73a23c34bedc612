"""Watching tasks: subscribe, hand each change to a view, survive the daemon's restart, end in time.

The daemon pushes; nothing here polls. When the connection is lost because the daemon crashed, it is
started again (a task goes on only while one runs), and the new subscription begins with the full state,
so no change is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from batch_infer.cli.tasks import all_tasks
from batch_infer.protocol.errors import DaemonUnavailable, ProtocolError, TaskNotFound
from batch_infer.protocol.text import Text
from batch_infer.render.shapes import Load, Summary

if TYPE_CHECKING:
    from batch_infer.cli.context import Context, Peer

# A daemon that crashes this often in this time (seconds) will not get better by being started again.
_LOSSES_MAX = 5
_LOSSES_WINDOW_S = 60.0
# How long a daemon that was stopped may take to be started again by somebody.
_RETURN_TRIES = 20
_RETURN_EACH_S = 0.5

Tasks = Mapping[str, Summary]


class View(Protocol):
    """Shows what happens."""

    def show(self, tasks: Tasks, changed: Sequence[Summary], daemon: Load) -> None:
        """Show the state of all watched tasks; `changed` are those that are new since the last call."""

    def look(self, peer: Peer) -> None:
        """Ask the daemon for more, if this view wants to show more."""

    def notice(self, text: Text) -> None:
        """Tell about the connection."""


def watch(
    context: Context, ids: Sequence[str] | None, view: View, until: Callable[[Tasks], bool]
) -> dict[str, Summary]:
    """Watch tasks (None: all of them) until `until` says that it is enough; their last state.

    Raises TaskNotFound, and DaemonUnavailable when the daemon cannot be started again or keeps ending.
    """
    tasks: dict[str, Summary] = {}
    losses: list[float] = []
    peer = context.start(context.workspace)
    while True:
        try:
            for changed, daemon in _changes(peer, ids):
                _take(tasks, changed, ids)
                view.look(peer)
                view.show(tasks, [task for task in changed if not task.get("gone")], daemon)
                if until(tasks):
                    return tasks
        except (DaemonUnavailable, ProtocolError):
            pass  # lost; what to do stands below
        finally:
            peer.close()
        peer = again(context, view, losses)
        view.notice(Text("connected again"))


def _changes(peer: Peer, ids: Sequence[str] | None) -> Iterator[tuple[list[Summary], Load]]:
    """The full state first, then what changes, each with the load of the daemon and its workers."""
    daemon: Load = {}
    pushed = peer.subscribe(None if ids is None else list(ids))
    for number, params in enumerate(pushed):
        daemon = params.get("daemon") or daemon
        tasks: list[Summary] = params.get("tasks", [])
        # The first push holds no more than one page; only the list has them all.
        yield all_tasks(peer) if ids is None and number == 0 else tasks, daemon


def _take(tasks: dict[str, Summary], changed: Sequence[Summary], ids: Sequence[str] | None) -> None:
    """Keep the newest state of each task. Raises TaskNotFound when a watched one is gone."""
    for task in changed:
        if not task.get("gone"):
            tasks[task["task_id"]] = task
            continue
        tasks.pop(task["task_id"], None)
        if ids is not None:
            raise TaskNotFound(Text("the task {id} is gone: its folder was removed", {"id": task["task_id"]}))


def again(context: Context, view: View, losses: list[float]) -> Peer:
    """A new connection after one was lost; `losses` keeps when that happened.

    A daemon that crashed is started again. One that a person stopped is not: that is for a person to
    do, and for a while it is waited for.
    """
    if context.stopped(context.workspace):
        view.notice(Text("the daemon was stopped; waiting for it to come back"))
        for _ in range(_RETURN_TRIES):
            context.sleep(_RETURN_EACH_S)
            peer = context.find(context.workspace)
            if peer is not None:
                return peer
        raise DaemonUnavailable(
            Text("the daemon was stopped"),
            hints=(Text("unfinished tasks go on when it runs again: batch_infer -daemon start"),),
        )
    now = context.monotonic()
    losses[:] = [*(moment for moment in losses if now - moment < _LOSSES_WINDOW_S), now]
    if len(losses) > _LOSSES_MAX:
        raise DaemonUnavailable(
            Text("the daemon ended {n} times within a minute", {"n": len(losses)}),
            hints=(Text("its log says why: {path}", {"path": str(context.workspace.logs)}),),
        )
    view.notice(Text("the connection to the daemon was lost; connecting again"))
    return context.start(context.workspace)
