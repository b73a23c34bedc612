"""The file-system seam: every durable write goes through here, so that a test can make it fail.

Paths are relative to a directory handle: a task whose folder was removed or replaced is never written
to by name again. `BATCH_INFER_FS_FAULTS` plans failures: `operation:substring=ERRNO[@N]` joined by `;`
fails the N-th matching call (from the N-th on with `@N+`; each one without). Operations: `open`,
`write`, `sync`, `rename`. With `BATCH_INFER_FS_FAULTS_FILE=F` the plan is read from F at each call: a
test can end the fault while the process runs.

`BATCH_INFER_FS_JOURNAL=F` appends to F what was synced, and up to which size, a JSON object a line: so a
test can play a loss of power, and take away again what was never synced (`tests/faults/test_power.py`).
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections import Counter
from pathlib import Path
from stat import S_ISDIR

from batch_infer.protocol.regular import open_regular

_HAS_DIR_FD = os.open in os.supports_dir_fd
O_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
O_BINARY = getattr(os, "O_BINARY", 0)

_calls: Counter[str] = Counter()
_lock = threading.Lock()


def _check(operation: str, name: str) -> None:
    plan = os.environ.get("BATCH_INFER_FS_FAULTS", "")
    source = os.environ.get("BATCH_INFER_FS_FAULTS_FILE")
    if source:
        try:
            plan = Path(source).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            plan = ""
    if not plan:
        return
    for part in filter(None, plan.split(";")):
        where, _, what = part.partition("=")
        wanted, _, substring = where.partition(":")
        number, _, hit = what.partition("@")
        if wanted != operation or substring not in name:
            continue
        with _lock:
            _calls[where] += 1
            count = _calls[where]
        if hit and not (
            count == int(hit.rstrip("+")) or (hit.endswith("+") and count > int(hit.rstrip("+")))
        ):
            continue
        raise OSError(int(number), f"{os.strerror(int(number))} (planned)", name)


def _note_sync(name: str, size: int) -> None:
    path = os.environ.get("BATCH_INFER_FS_JOURNAL")
    if path:
        line = json.dumps({"name": name, "size": size}) + "\n"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | O_CLOEXEC, 0o600)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)


class Directory:
    """An open directory: its handle, path, device and inode. All names are relative to it.

    Once it is closed every method that would touch a file raises OSError (EBADF): the path may lead to
    another task's folder by then.
    """

    def __init__(self, path: Path) -> None:
        """Open an existing directory, not through a symbolic link at its end. Raises OSError."""
        self.path = path
        self._closed = False
        flags = os.O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW
        self._fd = os.open(path, flags) if _HAS_DIR_FD else None  # None: names go by the path here
        stat = os.stat(path) if self._fd is None else os.fstat(self._fd)
        self.identity = (stat.st_dev, stat.st_ino)

    @property
    def handle(self) -> int | None:
        """The open descriptor; None on systems where names go by the path. Raises OSError once closed."""
        if self._closed:
            raise OSError(errno.EBADF, "the directory is closed", str(self.path))
        return self._fd

    def still_there(self) -> bool:
        """Whether the path still leads to this very directory. Never once it is closed.

        Only an open handle keeps the inode from being given to another directory.
        """
        if self._closed:
            return False
        try:
            stat = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return (stat.st_dev, stat.st_ino) == self.identity

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A file descriptor for `name`; no link is followed, and nothing is waited for.

        Raises NotRegularError for what is no file, and OSError.
        """
        handle = self.handle
        _check("open", name)
        if handle is not None:
            return open_regular(name, flags, mode, dir_fd=handle, follow=False)
        return open_regular(self.path / name, flags, mode, follow=False)

    def mkdir(self, name: str) -> None:
        """Make a folder (0700) unless it is there. The parent must exist."""
        handle = self.handle
        try:
            if handle is not None:
                os.mkdir(name, 0o700, dir_fd=handle)
            else:
                os.mkdir(self.path / name, 0o700)
        except FileExistsError:
            return

    def listdir(self, name: str = ".") -> list[str]:
        """The names in a folder; empty where there is none."""
        handle = self.handle
        try:
            if handle is not None:
                fd = os.open(name, os.O_RDONLY | O_DIRECTORY | O_CLOEXEC, dir_fd=handle)
                try:
                    return os.listdir(fd)
                finally:
                    os.close(fd)
            return os.listdir(self.path / name)
        except FileNotFoundError:
            return []

    def rename(self, old: str, new: str, target: Directory | None = None) -> None:
        """Rename over whatever `new` was, in this directory or in `target`."""
        there = target or self
        handle, its_handle = self.handle, there.handle
        _check("rename", new)
        if handle is not None:
            os.rename(old, new, src_dir_fd=handle, dst_dir_fd=its_handle)
        else:
            os.replace(self.path / old, there.path / new)

    def unlink(self, name: str) -> None:
        """Remove a file; nothing if it is not there."""
        handle = self.handle
        try:
            if handle is not None:
                os.unlink(name, dir_fd=handle)
            else:
                os.unlink(self.path / name)
        except FileNotFoundError:
            return

    def is_folder(self, name: str) -> bool:
        """Whether `name` is a folder itself, not a link to one."""
        handle = self.handle
        try:
            if handle is not None:
                info = os.stat(name, dir_fd=handle, follow_symlinks=False)
            else:
                info = os.stat(self.path / name, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return S_ISDIR(info.st_mode)

    def rmdir(self, name: str) -> None:
        """Remove an empty folder; nothing if it is not there."""
        handle = self.handle
        try:
            if handle is not None:
                os.rmdir(name, dir_fd=handle)
            else:
                os.rmdir(self.path / name)
        except FileNotFoundError:
            return

    def read(self, name: str) -> bytes:
        """The whole of a small file. Raises OSError."""
        fd = self.open(name, os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def write_atomic(self, name: str, data: bytes) -> None:
        """Write, sync and rename into place: after a crash the old or the new content stands."""
        temporary = f"{name}.tmp"
        self.unlink(temporary)
        fd = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(fd, data, temporary)
            sync(fd, temporary)
        finally:
            os.close(fd)
        self.rename(temporary, name)
        self.sync()

    def sync(self, name: str = ".") -> None:
        """Make the directory's own entries durable (nothing to do on Windows)."""
        handle = self.handle
        if handle is None:
            return
        _check("sync", name)
        if name == ".":
            os.fsync(handle)
            return
        fd = os.open(name, os.O_RDONLY | O_DIRECTORY | O_CLOEXEC, dir_fd=handle)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the handle back; nothing if it is closed. Raises OSError, and is closed then too."""
        self._closed = True
        handle, self._fd = self._fd, None
        if handle is not None:
            os.close(handle)


def write_all(fd: int, data: bytes | memoryview, name: str = "") -> None:
    """Write every byte to `fd`. Raises OSError; then an unknown part has been written."""
    _check("write", name)
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        view = view[written:]


def sync(fd: int, name: str = "") -> None:
    """Make a file's content durable. A failure is final: the kernel may have dropped the pages."""
    _check("sync", name)
    size = os.fstat(fd).st_size  # what is written meanwhile may not be synced
    getattr(os, "fdatasync", os.fsync)(fd)
    _note_sync(name, size)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes from `offset`, wherever the descriptor stands. Raises OSError."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)


def read_into(fd: int, buffer: memoryview) -> int:
    """Fill `buffer` from the file's beginning, wherever the descriptor stands; the bytes that there were.

    Raises OSError.
    """
    done = 0
    while done < len(buffer):
        if hasattr(os, "preadv"):
            count = os.preadv(fd, [buffer[done:]], done)
        else:
            data = read_at(fd, len(buffer) - done, done)
            count = len(data)
            buffer[done : done + count] = data
        if not count:
            break
        done += count
    return done
