"""The file-system seam: every durable write goes through here, so that a test can make it fail.

Paths are relative to a directory handle: a task whose folder was removed or replaced is never written
to by name again. `BATCH_INFER_FS_FAULTS` plans failures: `operation:substring=ERRNO[@N]` joined by `;`
fails the N-th matching call (from the N-th on with `@N+`; each one without). Operations: `open`,
`write`, `sync`, `rename`. With `BATCH_INFER_FS_FAULTS_FILE=F` the plan is read from F at each call: a
test can end the fault while the process runs.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from stat import S_ISDIR

_HAS_DIR_FD = os.open in os.supports_dir_fd
O_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
O_BINARY = getattr(os, "O_BINARY", 0)

_calls: Counter[str] = Counter()


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
        _calls[where] += 1
        count = _calls[where]
        if hit and not (
            count == int(hit.rstrip("+")) or (hit.endswith("+") and count > int(hit.rstrip("+")))
        ):
            continue
        raise OSError(int(number), f"{os.strerror(int(number))} (planned)", name)


class Directory:
    """An open directory: its handle, path, device and inode. All names are relative to it."""

    def __init__(self, path: Path) -> None:
        """Open an existing directory, not through a symbolic link at its end. Raises OSError."""
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) if _HAS_DIR_FD else -1
        stat = os.fstat(self.fd) if self.fd >= 0 else os.stat(path)
        self.identity = (stat.st_dev, stat.st_ino)

    def still_there(self) -> bool:
        """Whether the path still leads to this very directory."""
        try:
            stat = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return (stat.st_dev, stat.st_ino) == self.identity

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A file descriptor for `name`. Raises OSError."""
        _check("open", name)
        flags |= O_CLOEXEC | O_BINARY | O_NOFOLLOW
        if self.fd >= 0:
            return os.open(name, flags, mode, dir_fd=self.fd)
        return os.open(self.path / name, flags, mode)

    def mkdir(self, name: str) -> None:
        """Make a folder (0700) unless it is there. The parent must exist."""
        try:
            if self.fd >= 0:
                os.mkdir(name, 0o700, dir_fd=self.fd)
            else:
                os.mkdir(self.path / name, 0o700)
        except FileExistsError:
            return

    def listdir(self, name: str = ".") -> list[str]:
        """The names in a folder; empty where there is none."""
        try:
            if self.fd >= 0:
                fd = os.open(name, os.O_RDONLY | O_DIRECTORY | O_CLOEXEC, dir_fd=self.fd)
                try:
                    return os.listdir(fd)
                finally:
                    os.close(fd)
            return os.listdir(self.path / name)
        except FileNotFoundError:
            return []

    def rename(self, old: str, new: str, target: Directory | None = None) -> None:
        """Rename over whatever `new` was, in this directory or in `target`."""
        _check("rename", new)
        there = target or self
        if self.fd >= 0:
            os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=there.fd)
        else:
            os.replace(self.path / old, there.path / new)

    def unlink(self, name: str) -> None:
        """Remove a file; nothing if it is not there."""
        try:
            if self.fd >= 0:
                os.unlink(name, dir_fd=self.fd)
            else:
                os.unlink(self.path / name)
        except FileNotFoundError:
            return

    def is_folder(self, name: str) -> bool:
        """Whether `name` is a folder itself, not a link to one."""
        try:
            if self.fd >= 0:
                info = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            else:
                info = os.stat(self.path / name, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return S_ISDIR(info.st_mode)

    def rmdir(self, name: str) -> None:
        """Remove an empty folder; nothing if it is not there."""
        try:
            if self.fd >= 0:
                os.rmdir(name, dir_fd=self.fd)
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
        if self.fd < 0:
            return
        _check("sync", name)
        if name == ".":
            os.fsync(self.fd)
            return
        fd = os.open(name, os.O_RDONLY | O_DIRECTORY | O_CLOEXEC, dir_fd=self.fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the handle back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def write_all(fd: int, data: bytes, name: str = "") -> None:
    """Write every byte to `fd`. Raises OSError; then an unknown part has been written."""
    _check("write", name)
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        view = view[written:]


def sync(fd: int, name: str = "") -> None:
    """Make a file's content durable. A failure is final: the kernel may have dropped the pages."""
    _check("sync", name)
    getattr(os, "fdatasync", os.fsync)(fd)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes from `offset`, wherever the descriptor stands. Raises OSError."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)
