"""The machine and the workspace: what the daemon itself needs. Every function blocks on the disk."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from batch_infer.protocol import beacon, locks
from batch_infer.protocol.text import Text
from batch_inferd.doctor.check import Check
from batch_inferd.lifecycle.filesystem import file_system, network_warning
from batch_inferd.lifecycle.limits import WANTED
from batch_inferd.tasks.folder import free_bytes

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace

OLDEST = (3, 11)
LEAST_FREE_BYTES = 100_000_000
LEAST_FILES = 1024  # sockets of a task at its usual concurrency, journals and databases
_SCRATCH = ".doctor-"


def environment(workspace: Workspace) -> list[Check]:
    """All of them. What they try is tried in a scratch folder of the workspace, which is removed."""
    root = workspace.root
    checks = [python(), disk(root), network_file_system(root), open_files()]
    try:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=root) as scratch:
            checks += [sqlite(Path(scratch)), lock(workspace, Path(scratch))]
    except OSError as error:
        text = Text("nothing can be written in {path}: {error}", {"path": str(root), "error": _words(error)})
        checks.append(Check("workspace", False, text, Text("mend its permissions, or take -workspace DIR")))
    return checks


def python() -> Check:
    """The interpreter that the daemon runs in."""
    params = {
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    new = sys.version_info[:2] >= OLDEST
    hint = None if new else Text("install Python 3.11 or newer")
    return Check("python", new, Text("{implementation} {version} on {system}", params), hint)


def disk(root: Path) -> Check:
    """What may still be written in the workspace."""
    free = free_bytes(root)
    text = Text("{free} MB are free in {path}", {"free": free // 1_000_000, "path": str(root)})
    if free >= LEAST_FREE_BYTES:
        return Check("disk", True, text)
    return Check("disk", False, text, Text("make room, or take another workspace: -workspace DIR"))


def network_file_system(root: Path) -> Check:
    """Locks and syncs are weaker on a network file system: that is uncertain, not wrong."""
    warning = network_warning(root)
    if warning is not None:
        return Check("file_system", None, warning, Text("take a workspace on a local disk: -workspace DIR"))
    kind = file_system(root)
    if not kind:
        return Check("file_system", None, Text("the kind of the file system cannot be told"))
    return Check("file_system", True, Text("the file system is {kind}, a local one", {"kind": kind}))


def open_files() -> Check:
    """The files that the daemon may have open; it has raised the limit as far as it may."""
    if sys.platform == "win32":
        return Check("open_files", True, Text("this system has no limit of open files"))
    import resource  # noqa: PLC0415  Unix only

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Check("open_files", True, Text("this system has no limit of open files"))
    text = Text("{count} files may be open at a time", {"count": soft})
    if soft >= LEAST_FILES:
        return Check("open_files", True, text)
    hint = Text("raise the limit where the daemon starts: ulimit -n {wanted}", {"wanted": WANTED})
    return Check("open_files", False, text, hint)


def sqlite(scratch: Path) -> Check:
    """SQLite's version, and whether the file system lets it keep a write-ahead log."""
    params = {"version": sqlite3.sqlite_version}
    try:
        with closing(sqlite3.connect(scratch / "try.db")) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("CREATE TABLE t (a)")
    except sqlite3.Error as error:
        text = Text("SQLite {version} cannot work here: {error}", params | {"error": str(error)})
        return Check("sqlite", False, text, Text("take a workspace on a local disk: -workspace DIR"))
    if mode == "wal":
        return Check("sqlite", True, Text("SQLite {version}, with a write-ahead log", params))
    return Check("sqlite", True, Text("SQLite {version}, without a write-ahead log: it is slower", params))


def lock(workspace: Workspace, scratch: Path) -> Check:
    """Whether a lock keeps a second holder out here, and the workspace's own is this daemon's."""
    hint = Text("take a workspace on a local disk: -workspace DIR")
    try:
        first = locks.acquire(scratch / "try.lock")
        second = locks.acquire(scratch / "try.lock")
    except OSError as error:
        text = Text("files cannot be locked here: {error}", {"error": _words(error)})
        return Check("lock", False, text, hint)
    for held in (first, second):
        if held is not None:
            held.release()
    if first is None or second is not None:
        return Check("lock", False, Text("locks do not keep others out here"), hint)
    found = beacon.read(workspace.beacon)
    if found is None or found.pid != os.getpid() or not workspace.lock.exists():
        where = {"path": str(workspace.root)}
        text = Text("locks work, but the files of this daemon are gone from {path}", where)
        return Check("lock", False, text, Text("start it anew: batch_infer -daemon stop"))
    text = Text("locks work; process {pid} is the daemon of this workspace", {"pid": found.pid})
    return Check("lock", True, text)


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
