"""Sending packed files and fetching result files. The loop waits for the network, threads for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.provider import Unsettled, Upload
from batch_inferd.backends.traffic import TRAFFIC
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import sync, write_all
from batch_inferd.worker.batch.holed import HoledFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from batch_inferd.seams.files import Directory
    from batch_inferd.worker.batch.context import JobContext
    from batch_inferd.worker.batch.messages import DownloadParams, UploadParams

    # Awaits a call of the provider; only there may a transfer be cancelled.
    Interruptible = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]
    Progress = Callable[[int, int], None]  # bytes done, of all (0: unknown)


async def upload(
    context: JobContext, params: UploadParams, interruptible: Interruptible, progress: Progress
) -> dict[str, Any]:
    """Send a packed file, or find that it was sent. Raises OSError, NotSent, ProviderError, JobCancelled.

    Refused with `holed.IMAGE_CHANGED`: it has to be packed again.
    """
    file = Upload(context.directory.path / params.file, params.filename, params.size)
    if params.holed:
        file = file._replace(opened=lambda: HoledFile(context, params.file, params.size))
    else:
        await asyncio.to_thread(_check_size, context.directory, params)
    provider = context.provider
    input_ref: str | None = None
    if params.reuse:
        input_ref = await interruptible(provider.find_upload(file))
    if input_ref is None:
        before = 0

        def sent(done: int) -> None:
            nonlocal before
            TRAFFIC.add(sent=max(0, done - before))
            before = done
            progress(done, params.size)

        input_ref = await interruptible(provider.upload(file, sent))
    failpoint("batch.uploaded")
    return {"input_ref": input_ref}


def _check_size(directory: Directory, params: UploadParams) -> None:
    fd = directory.open(params.file, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    if size != params.size:
        raise OSError(errno.EIO, f"the packed file has {size} bytes, not {params.size}", params.file)


async def download(
    context: JobContext, params: DownloadParams, interruptible: Interruptible, progress: Progress
) -> dict[str, Any]:
    """Fetch a result file; it has its name once it is whole. Raises as `upload` does."""
    part = await asyncio.to_thread(_Part, context.directory, params.file)
    try:
        size = 0

        def write(data: bytes) -> None:
            nonlocal size
            first = not size
            part.write(data)
            size += len(data)
            TRAFFIC.add(received=len(data))
            progress(size, 0)
            if first:
                failpoint("batch.download_half")

        told = await interruptible(
            context.provider.download(params.ref, write, lambda: failpoint("batch.download_opened"))
        )
        _check_told(size, told)
        await asyncio.to_thread(part.finish)
    except BaseException:
        await asyncio.to_thread(part.abandon)
        raise
    return {"bytes": size}


def _check_told(size: int, told: int) -> None:
    if told != size:
        values = {"size": size, "told": told}
        raise Unsettled(Text("{size} bytes of the result file came, and {told} were announced", values))


class _Part:
    """A file under another name until it is whole and durable."""

    def __init__(self, directory: Directory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._part = f"{name}.part"
        self._folder = name.rpartition("/")[0] or "."
        directory.mkdir(self._folder)
        self._fd = directory.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def write(self, data: bytes) -> None:
        """Append. Raises OSError."""
        write_all(self._fd, data, self._part)

    def finish(self) -> None:
        """Make it durable under its name. Raises OSError."""
        sync(self._fd, self._part)
        self._close()
        self._directory.rename(self._part, self._name)
        self._directory.sync(self._folder)
        self._directory.sync()

    def abandon(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self._close()
            self._directory.unlink(self._part)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
