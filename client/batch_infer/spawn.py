"""Starting the daemon as a process of its own, and hearing whether it is ready.

It gets its own session, no stdin, no other open files, the workspace as its directory, and a pipe as
its stdout, on which it says one line: `ready`, or its error as JSON. What else it prints goes to
`logs/daemon.out.log`. The pipe works alike on all platforms; the daemon puts the log in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

from batch_infer.protocol.errors import BatchInferError, DaemonUnavailable, from_wire
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from batch_infer.launch import Deadline
    from batch_infer.protocol.workspace import Workspace

MODULE = "batch_inferd"
READY = b"ready"
OUTPUT_NAME = "daemon.out.log"
_ANSWER_CAP = 64 * 1024
_OUTPUT_CAP = 1024 * 1024
_TAIL = 4096


def spawn(workspace: Workspace, deadline: Deadline, *, with_worker: bool = False) -> None:
    """Start the daemon of `workspace` and return once it listens; the caller holds the start lock.

    `with_worker`: work is about to come, a worker is to be ready for it.
    Raises DaemonUnavailable, or the error that the daemon tells.
    """
    try:
        log = _open_output(workspace.logs)
    except OSError as error:
        raise DaemonUnavailable(
            Text("cannot write to {path}: {error}", {"path": str(workspace.logs), "error": str(error)})
        ) from error
    with log:
        before = log.tell()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", MODULE, "--workspace", str(workspace.root), "--ready-fd", "1"),
                *(["--with-worker"] if with_worker else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=workspace.root,
            env=environment(os.environ),
            **_detached(),
        )
    answer = _Answer(process)
    line = answer.wait(deadline.left())
    if line is None:
        raise deadline.error()
    if line != READY:
        raise _failure(line, workspace.logs / OUTPUT_NAME, before)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment: without the starting shell's proxies, which are not for all tasks.

    The workspace is the daemon's directory, so Python must not look for modules there.
    """
    kept = {name: value for name, value in environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _open_output(logs: Path) -> IO[bytes]:
    """`daemon.out.log`, to append to; begun anew when it has grown large. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(logs)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(logs / OUTPUT_NAME, flags, 0o600)
    if os.fstat(fd).st_size > _OUTPUT_CAP:
        os.ftruncate(fd, 0)
    file = os.fdopen(fd, "ab")
    file.seek(0, os.SEEK_END)
    return file


def _failure(line: bytes, output: Path, before: int) -> BatchInferError:
    """The daemon's own error; where it could not tell any, the last line that it printed."""
    try:
        error = json.loads(line)
    except (ValueError, RecursionError):
        error = None
    if isinstance(error, dict):
        return from_wire(error)
    with open(output, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(before, file.tell() - _TAIL))
        printed = file.read().decode("utf-8", "replace").strip()
    return DaemonUnavailable(
        Text(
            "the daemon ended before it was ready: {reason}",
            {"reason": printed.rpartition("\n")[2] or "it printed nothing"},
        ),
        hints=(Text("see {path}", {"path": str(output)}),),
    )


class _Answer:
    """Reads the daemon's answer in a thread: a pipe cannot be waited for with a timeout on Windows."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._line = b""
        self._arrived = threading.Event()
        threading.Thread(target=self._attend, name="daemon-start", daemon=True).start()

    def wait(self, timeout: float) -> bytes | None:
        """All that the daemon said, once it has closed the pipe; None when the time is up."""
        return self._line if self._arrived.wait(timeout) else None

    def _attend(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  a pipe was asked for
        with self._process.stdout as pipe:
            self._line = pipe.read(_ANSWER_CAP).strip()
        self._arrived.set()
        # Stay to reap the daemon, should it end before this process does.
        self._process.wait()
