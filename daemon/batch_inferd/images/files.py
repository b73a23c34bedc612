"""Reading a local file that somebody's data names: only a regular one, only within its limit."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from batch_inferd.images.errors import ImageError
from batch_inferd.images.kinds import HEAD_BYTES, check_kind
from batch_inferd.seams.files import O_BINARY, O_CLOEXEC

if TYPE_CHECKING:
    from collections.abc import Iterator

# A pipe or a device that takes the file's place is not waited for.
_FLAGS = os.O_RDONLY | O_BINARY | O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EIO",
        "ESTALE",
        "ETIMEDOUT",
        "EMFILE",
        "ENFILE",
        "ENOMEM",
        "EAGAIN",
        "EHOSTDOWN",
        "EHOSTUNREACH",
    )
    if hasattr(errno, name)
)


def file_size(path: str, name: str, max_bytes: int) -> int:
    """The bytes of an image's file. Raises ImageError, `name` is what it calls the file."""
    try:
        return _check(os.stat(path), name, max_bytes)
    except OSError as error:
        raise _failed(name, error) from error


def read_file(path: str, name: str, max_bytes: int, formats: tuple[str, ...]) -> bytes:
    """The content of an image's file. Raises ImageError.

    Its size is checked before it is opened, and its first bytes before it is read.
    """
    try:
        with open_file(path, name, max_bytes) as (file, size):
            head = file.read(HEAD_BYTES)
            check_kind(name, head, formats)
            file.seek(0)
            data = file.read(size + 1)
    except OSError as error:
        raise _failed(name, error) from error
    if len(data) != size:
        raise ImageError("image_unreadable", f"the image {name} changed while it was read", transient=True)
    return data


@contextlib.contextmanager
def open_file(path: str, name: str, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """An image's file, open, and its size, which is checked before and after. Raises ImageError, OSError."""
    file_size(path, name, max_bytes)
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        yield file, _check(os.fstat(file.fileno()), name, max_bytes)


def _check(found: os.stat_result, name: str, max_bytes: int) -> int:
    if not stat.S_ISREG(found.st_mode):
        what = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise ImageError("image_unreadable", f"the image {name} is {what}")
    if not found.st_size:
        raise ImageError("image_invalid", f"the image {name} is empty")
    return within(found.st_size, name, max_bytes)


def within(size: int, name: str, max_bytes: int) -> int:
    """The size. Raises ImageError when it is over the limit."""
    if size > max_bytes:
        raise ImageError("image_too_large", f"the image {name} has {size} bytes, allowed are {max_bytes}")
    return size


def _failed(name: str, error: OSError) -> ImageError:
    if error.errno in _MISSING:
        return ImageError("image_missing", f"the image {name} does not exist")
    words = error.strerror or str(error)
    return ImageError(
        "image_unreadable", f"the image {name} cannot be read: {words}", transient=error.errno in _PASSING
    )
