"""Starts the service's process and reads how that went. Both the daemon and the tests start it so.

The child's stdout is the readiness pipe (see `__main__`): that works alike on Unix and Windows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import msgspec

from batch_inferd.testing.state import make_state_dir

if TYPE_CHECKING:
    from pathlib import Path

LOG_NAME = "service.log"
_TAIL_BYTES = 2000
# These make the daemon and its workers fail. The service is their peer: it must not catch it from them.
# The clock is one for all: batches take their time by it.
_NOT_INHERITED = (
    "BATCH_INFER_FAILPOINTS",
    "BATCH_INFER_FAILPOINT_DIR",
    "BATCH_INFER_FS_FAULTS",
    "BATCH_INFER_FS_FAULTS_FILE",
)


class SpawnError(Exception):
    """The service did not start; `held` when another one serves the directory already."""

    def __init__(self, message: str, *, held: bool = False) -> None:
        super().__init__(message)
        self.held = held


class _Report(msgspec.Struct):
    """The line of the readiness pipe: `base_url` and `pid`, or `error` and `held`."""

    base_url: str = ""
    pid: int = 0
    error: str = ""
    held: bool = False


def spawn(state_dir: Path, *, controls: str, port: int, idle_exit_s: float) -> subprocess.Popen[bytes]:
    """Start the service in a session of its own, its log in DIR/service.log. Raises OSError.

    `controls` is JSON. Hand the process to `read_report` next.
    """
    state_dir = make_state_dir(state_dir)
    # -P: what lies in the working directory must not be imported.
    command = [sys.executable, "-P", "-m", "batch_inferd.testing", "--state", str(state_dir)]
    command += ["--port", str(port), "--controls", controls]
    command += ["--idle-exit", str(idle_exit_s), "--ready-fd", "1"]
    log = os.open(state_dir / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=state_dir,
            env={name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
            start_new_session=sys.platform != "win32",
            creationflags=_detached_flags(),
        )
    finally:
        os.close(log)


def read_report(process: subprocess.Popen[bytes], state_dir: Path) -> str:
    """Block until the child listens; its base URL. Raises SpawnError.

    Killing the child ends the wait. After SpawnError it has ended and is reaped.
    """
    pipe = process.stdout
    if pipe is None:
        raise ValueError("this process was not started by spawn()")
    with pipe:
        line = pipe.readline()
    try:
        report = msgspec.json.decode(line, type=_Report)
    except (msgspec.DecodeError, UnicodeError):
        report = _Report()
    if report.base_url:
        return report.base_url
    status = process.wait()
    raise SpawnError(report.error or _last_words(state_dir, status), held=report.held)


def reap_in_background(process: subprocess.Popen[bytes]) -> None:
    """Collect the child whenever it ends, so that it never stays as a zombie of a long-lived daemon."""
    threading.Thread(target=process.wait, name="test-service-reaper", daemon=True).start()


def _last_words(state_dir: Path, status: int) -> str:
    try:
        log = (state_dir / LOG_NAME).read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace")
    except OSError:
        log = ""
    return f"it ended with status {status} before it was ready\n{log}".strip()


def _detached_flags() -> int:
    if sys.platform == "win32":
        return subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
    return 0
