"""The way to the daemon of a workspace: connect, or start it.

1. Take the endpoint from `.daemon.json` and connect. Most commands end here.
2. Nobody there (no file, no socket, nobody listens, the end before hello): take `.daemon.start.lock`.
   Whoever starts a daemon holds it, so N clients start one daemon.
3. Connect once more: another client may have started it meanwhile.
4. While `.daemon.lock` is held, a daemon lives that does not answer (yet): it may be ending, or it may
   be making a lost socket again. Wait and connect again; never steal.
5. Spawn the daemon, wait for its `ready`, connect.

All steps share one deadline, and its error names the step. A daemon of another protocol is replaced
when it is idle. A busy one is never touched: its requests cost money.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from batch_infer.connection import Connection, NoAnswerError
from batch_infer.protocol import beacon as beacons
from batch_infer.protocol import holding, locks, rpc
from batch_infer.protocol.errors import DaemonUnavailable, Incompatible
from batch_infer.protocol.text import Text
from batch_infer.version import __version__

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace

START_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
_RETRY_S = 0.1


class Deadline:
    """The end of all patience, and what is being done meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.phase = Text("the client was connecting to it")
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, never under 0."""
        return max(0.0, self._end - time.monotonic())

    def error(self) -> DaemonUnavailable:
        """What to raise when nothing is left."""
        return DaemonUnavailable(
            Text(
                "no daemon after {seconds} s; the time ran out while {phase}",
                {"seconds": f"{self.seconds:g}", "phase": self.phase},
            )
        )


def connect_existing(
    workspace: Workspace, *, timeout: float = CONNECT_TIMEOUT_S, any_version: bool = False
) -> Connection | None:
    """A connection to the workspace's daemon if one runs, None otherwise.

    With `any_version`, also to one that speaks another protocol: it answers `daemon.status` and
    `daemon.stop` all the same. Raises DaemonUnavailable, Incompatible.
    """
    try:
        return _connect(workspace, timeout, any_version=any_version)
    except NoAnswerError:
        return None


def connect_or_start(
    workspace: Workspace, *, timeout: float = START_TIMEOUT_S, with_worker: bool = False
) -> Connection:
    """A connection to the workspace's daemon, which is started if none runs, within `timeout` seconds.

    `with_worker`: work is about to come, a daemon that is started has a worker ready for it.
    Raises DaemonUnavailable, Incompatible (a busy daemon of another version), or the error that a
    daemon had while it started.
    """
    deadline = Deadline(timeout)
    with contextlib.suppress(NoAnswerError):
        return _reach(workspace, deadline)
    deadline.phase = Text("another client was starting the daemon")
    try:
        start_lock = locks.acquire(workspace.start_lock, deadline.left())
    except OSError as error:
        raise holding.cannot_lock(workspace, error) from error
    if start_lock is None:
        raise deadline.error()
    try:
        return _start(workspace, deadline, with_worker=with_worker)
    finally:
        start_lock.release()


def _start(workspace: Workspace, deadline: Deadline, *, with_worker: bool) -> Connection:
    while True:
        try:
            return _reach(workspace, deadline)
        except NoAnswerError as error:
            if _lock_is_free(workspace):
                break
            if deadline.left() < _RETRY_S:
                raise holding.held_by_another(workspace, str(error)) from error
        time.sleep(_RETRY_S)
    from batch_infer import spawn

    deadline.phase = Text("the daemon was starting")
    spawn.spawn(workspace, deadline, with_worker=with_worker)
    try:
        return _reach(workspace, deadline)
    except NoAnswerError as error:
        raise DaemonUnavailable(
            Text("the daemon started, but cannot be reached: {error}", {"error": str(error)}),
            hints=(Text("see {path}", {"path": str(workspace.logs)}),),
        ) from error


def _connect(workspace: Workspace, timeout: float, *, any_version: bool) -> Connection:
    beacon = beacons.read(workspace.beacon)
    if beacon is None:
        raise NoAnswerError(f"there is no {workspace.beacon.name}")
    return Connection.open(beacon, timeout=timeout, any_version=any_version)


def _reach(workspace: Workspace, deadline: Deadline) -> Connection:
    """Connect if somebody is there; replace an idle daemon that we cannot talk to."""
    connection = _connect(workspace, max(deadline.left(), 1.0), any_version=True)
    if connection.incompatible is None:
        return connection
    with connection:
        status = connection.call(rpc.DAEMON_STATUS, timeout=max(deadline.left(), 1.0))
        if status.get("busy") is not False:
            raise _busy(status, connection.incompatible)
        deadline.phase = Text("the idle daemon of another version was ending")
        connection.call(rpc.DAEMON_STOP, timeout=max(deadline.left(), 1.0))
        if not connection.wait_closed(deadline.left()):
            raise deadline.error()
    raise NoAnswerError("the daemon of another version has ended")


def _lock_is_free(workspace: Workspace) -> bool:
    """Whether no daemon lives. Asked under the start lock, so no daemon can be starting."""
    try:
        lock = locks.acquire(workspace.lock)
    except OSError as error:
        raise holding.cannot_lock(workspace, error) from error
    if lock is None:
        return False
    lock.release()
    return True


def _busy(status: dict[str, object], refusal: Incompatible) -> Incompatible:
    return Incompatible(
        Text(
            "the running daemon is batch_infer {theirs}, this command is {ours}, and they cannot talk: "
            "the daemon still works on tasks, so it is not replaced",
            {"theirs": str(status.get("version", "?")), "ours": __version__},
        ),
        hints=(
            Text("wait until its tasks are done, and it is replaced by itself"),
            Text("or end it, and its tasks go on under the new one: batch_infer -daemon stop"),
        ),
        data=refusal.data,
    )
