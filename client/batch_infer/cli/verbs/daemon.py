"""-daemon: start, run in the foreground, stop, status."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE, DaemonUnavailable
from batch_infer.protocol.text import Text
from batch_infer.render.daemon_text import daemon_lines, public_daemon
from batch_infer.spawn import MODULE, environment

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request

# The daemon lets calls in flight finish before it ends; this is longer than it takes for that.
_STOP_S = 120.0


def run(context: Context, request: Request) -> int:
    """Do what the action says."""
    actions = {"start": _start, "run": _run, "stop": _stop, "status": _status}
    return actions[request.choice](context, request.as_json)


def _start(context: Context, as_json: bool) -> int:
    with context.daemon() as peer:
        _show(context, peer.call(rpc.DAEMON_STATUS), as_json)
    return EXIT_DONE


def _run(context: Context, _as_json: bool) -> int:
    """Become the daemon, so that a supervisor's signals reach it."""
    root = str(context.workspace.root)
    command = [sys.executable, "-m", MODULE, "--workspace", root, "--foreground"]
    environ = environment(context.environ) | {"BATCH_INFER_LANG": context.lang}
    if os.name == "posix":
        os.execve(sys.executable, command, environ)  # noqa: S606  it replaces this process; there is no shell
    return subprocess.call(command, env=environ)


def _stop(context: Context, as_json: bool) -> int:
    console = context.console
    peer = context.find_any(context.workspace)
    if peer is None:
        if as_json:
            console.json(public_daemon(None))
        else:
            _tell_none(context)
        return EXIT_DONE
    try:
        peer.call(rpc.DAEMON_STOP)
        if not peer.wait_closed(_STOP_S):
            raise DaemonUnavailable(
                Text("the daemon has not ended after {n} s", {"n": round(_STOP_S)}),
                hints=(Text("its log says why: {path}", {"path": str(context.workspace.logs)}),),
            )
    finally:
        peer.close()
    if as_json:
        console.json(public_daemon(None))
    else:
        console.data(
            console.text(Text("the daemon has ended; unfinished tasks go on when it is started again"))
        )
    return EXIT_DONE


def _status(context: Context, as_json: bool) -> int:
    peer = context.find_any(context.workspace)
    if peer is None:
        if as_json:
            context.console.json(public_daemon(None))
        else:
            _tell_none(context)
        return DaemonUnavailable.exit_code
    try:
        _show(context, peer.call(rpc.DAEMON_STATUS), as_json)
    finally:
        peer.close()
    return EXIT_DONE


def _show(context: Context, status: dict[str, object], as_json: bool) -> None:
    if as_json:
        context.console.json(public_daemon(status))
        return
    for line in daemon_lines(status, context.lang):
        context.console.data(line)


def _tell_none(context: Context) -> None:
    context.console.tell(
        Text("no daemon runs in the workspace {path}", {"path": str(context.workspace.root)})
    )
