"""The daemon's command line, and what stands around its life: lock, logs, limits, and the exit code.

    python -m batch_inferd --workspace DIR [--foreground | --ready-fd N] [--with-worker]

A client starts it with `--ready-fd` and holds the start lock meanwhile; started in any other way, it
takes the start lock itself. A client that brings work says `--with-worker`: then a worker gets ready beside
the daemon, and not after it. Exit codes as in `batch_infer.protocol.errors`; 0 is an end in order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import BatchInferError, InternalError
from batch_infer.protocol.text import Text, language
from batch_infer.protocol.workspace import Workspace, find_workspace
from batch_inferd import logs
from batch_inferd.lifecycle import limits, lock
from batch_inferd.lifecycle.filesystem import network_warning
from batch_inferd.lifecycle.life import Life
from batch_inferd.lifecycle.readiness import Readiness
from batch_inferd.loops import loop_factory
from batch_inferd.scheduling.worker_process import WorkerProcess
from batch_inferd.seams.clock import make_clock
from batch_inferd.seams.events import Events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_infer.protocol.locks import HeldLock
    from batch_inferd.lifecycle.application import Application, MakeApplication
    from batch_inferd.seams.clock import Clock

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, make_app: MakeApplication | None = None) -> int:
    """Run the daemon until it ends; the exit code. Tests put their own application in."""
    arguments = _parse(argv)
    readiness = Readiness(arguments.ready_fd)
    try:
        workspace = find_workspace(arguments.workspace)
        run(
            workspace,
            readiness,
            foreground=arguments.foreground,
            with_worker=arguments.with_worker,
            make_app=make_app,
        )
    except BatchInferError as error:
        readiness.failed(error)
        _print_error(error, language() if arguments.foreground else "en")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        readiness.failed(
            InternalError(
                Text("the daemon could not start: {error}", {"error": f"{type(error).__name__}: {error}"})
            )
        )
        raise
    return 0


def run(
    workspace: Workspace,
    readiness: Readiness,
    *,
    foreground: bool = False,
    with_worker: bool = False,
    make_app: MakeApplication | None = None,
) -> None:
    """Take the workspace and live in it. Raises BatchInferError when that is not possible."""
    if not readiness.has_starter:
        readiness.hold(lock.take_start_lock(workspace))
    held = lock.take(workspace)
    if foreground:
        runs = Text("the daemon of {path} runs here; Ctrl-C ends it", {"path": str(workspace.root)})
        _print(runs.render(language()))
    start_lock, restart = None, False
    last = contextlib.ExitStack()
    log = logs.start(workspace.logs, foreground=foreground)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            start_lock, restart = runner.run(
                _live(workspace, held, readiness, log, last, foreground, with_worker, make_app or _app)
            )
    except Exception:
        _log.exception("the daemon failed")
        raise
    finally:
        last.close()
        log.close()
        held.release()
        if start_lock is not None:
            start_lock.release()  # last: the client that waits for it finds the workspace free
    if restart:
        where = ["--workspace", str(workspace.root), *(["--foreground"] if foreground else [])]
        os.execv(sys.executable, [sys.executable, "-m", "batch_inferd", *where])  # noqa: S606  ourselves


async def _live(
    workspace: Workspace,
    held: HeldLock,
    readiness: Readiness,
    log: logs.Logs,
    last: contextlib.ExitStack,
    foreground: bool,
    with_worker: bool,
    make_app: MakeApplication,
) -> tuple[HeldLock | None, bool]:
    """The start lock where it is to be released last, and whether a newer build should take over."""
    open_files = limits.raise_open_files()
    _log.info("process %d, at most %d open files, Python %s", os.getpid(), open_files, sys.version.split()[0])
    warning = network_warning(workspace.root)
    if warning is not None:
        _log.warning("%s", warning)
    worker = await _worker(workspace) if with_worker else None
    clock = make_clock()
    app = make_app(workspace, clock, Events(), log.tasks)
    if worker is not None:
        app.take_worker(worker)
    start_lock = await Life(workspace, held, app, clock, last, foreground=foreground).run(readiness)
    return start_lock, bool(getattr(app, "restart_wanted", False))


async def _worker(workspace: Workspace) -> WorkerProcess | None:
    """One that gets ready while this process still loads; None where it cannot be started."""
    worker = WorkerProcess(workspace.workers)
    try:
        await worker.start()
    except OSError as error:
        _log.warning("no worker could be started ahead of time: %s", error)
        return None
    return worker


def _app(workspace: Workspace, clock: Clock, events: Events, tasks: logs.TaskLogs) -> Application:
    from batch_inferd.app import App  # noqa: PLC0415  a refused start must not wait for all of it

    return App(workspace, clock, events, tasks)


def _print_error(error: BatchInferError, lang: str) -> None:
    """As the client shows errors: it has become this process, or stderr is the last log left."""
    _print(f"{Text('error: ').render(lang)}{error.text.render(lang)}")
    for hint in error.hints:
        _print(f"{Text('hint: ').render(lang)}{hint.render(lang)}")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="batch_inferd", description="The daemon of batch_infer; `batch_infer` starts it by itself."
    )
    parser.add_argument("--workspace", metavar="DIR", help="default: the current directory")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help="log to stderr too; never end for idleness")
    how.add_argument(
        "--ready-fd", type=int, metavar="N", help="say `ready`, or the error, on this descriptor"
    )
    parser.add_argument("--with-worker", action="store_true", help="have a worker ready at once")
    return parser.parse_args(argv)
