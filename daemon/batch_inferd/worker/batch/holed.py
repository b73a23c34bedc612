"""A packed file with holes for its images, and how it is read as it is sent.

A file is a row of frames: `T <n>`, a newline and n bytes of requests; `I <JSON of a Cutout>`, a newline:
there is an image; and at the end `E <n>`, a newline: it has n bytes with all its images.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, NoReturn, Self

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.errors import IMAGE_CHANGED, BatchProblem, Refused
from batch_inferd.images.cutout import Cutout
from batch_inferd.images.errors import ImageError
from batch_inferd.images.plan import ImagePlan
from batch_inferd.worker.batch.patience import patiently

if TYPE_CHECKING:
    from batch_inferd.worker.batch.context import JobContext

_TAIL = 32  # bytes at the end that hold the last frame

_decode = msgspec.json.Decoder(Cutout).decode


def text_frame(data: bytes) -> bytes:
    """Requests, or a part of one."""
    return b"T %d\n%b" % (len(data), data) if data else b""


def image_frame(image: Cutout) -> bytes:
    """The place of an image."""
    return b"I %b\n" % msgspec.json.encode(image)


def end_frame(size: int) -> bytes:
    """The end of a file of `size` bytes."""
    return b"E %d\n" % size


class HoledFile:
    """Reads such a file with its images in it, one at a time. For one reading, from one thread at a time.

    `close` may come from another thread, also in the middle of a `read`.
    """

    def __init__(self, context: JobContext, name: str, size: int) -> None:
        """Open it. Raises OSError, also when it is not whole, or not of `size` bytes as it is sent."""
        self._context = context
        self._name = name
        self._lock = threading.Lock()
        self._reading = self._closed = False
        self._file = os.fdopen(context.directory.open(name, os.O_RDONLY), "rb")
        self._left = 0  # bytes of the text frame
        self._image = memoryview(b"")  # what is left of an image
        self._line = 1  # of the packed file, that what is read next belongs to
        try:
            self._check(size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back, as soon as nobody reads. An image that is being read is not waited for."""
        with self._lock:
            self._closed = True
            if not self._reading:
                self._file.close()

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end. Blocks.

        Raises Refused with IMAGE_CHANGED, which names the line, when an image is gone or another one;
        OSError, JobCancelled.
        """
        self._begin()
        try:
            return self._read(size)
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "the packed file is closed", self._name)
            self._reading = True

    def _end(self) -> None:
        with self._lock:
            self._reading = False
            if self._closed:
                self._file.close()

    def _read(self, size: int) -> bytes:
        while not (self._left or self._image):
            if not self._next_frame():
                return b""
        if self._image:
            piece, self._image = bytes(self._image[:size]), self._image[size:]
            return piece
        piece = self._file.read(min(size, self._left))
        if not piece:
            self._damaged()
        self._left -= len(piece)
        self._line += piece.count(b"\n")
        return piece

    def _next_frame(self) -> bool:
        """Whether there is one before the end."""
        kind, _, rest = self._file.readline().partition(b" ")
        if kind == b"E":
            return False
        try:
            if kind == b"T":
                self._left = int(rest)
                return True
            image = _decode(rest)
        except (ValueError, msgspec.DecodeError):
            self._damaged()
        self._image = memoryview(self._restored(image))
        return True

    def _restored(self, image: Cutout) -> bytes:
        plan = self._context.prepared.images or ImagePlan()  # a mended config may be without
        try:
            return patiently(self._context, lambda: image.restored(plan))
        except ImageError as error:
            text = Text("an image of the batch cannot be sent: {detail}", {"detail": str(error)})
            problem = BatchProblem(error.cls, str(error), self._line)
            raise Refused(text, IMAGE_CHANGED, problems=[problem]) from error

    def _check(self, size: int) -> None:
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, end - _TAIL))
        if not self._file.read().endswith(b"\n" + end_frame(size)):
            self._damaged()
        self._file.seek(0)

    def _damaged(self) -> NoReturn:
        raise OSError(errno.EIO, "the packed file is not what was packed", self._name)
