"""A form with a file in it, sent from the disk piece by piece, its length known beforehand."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from typing import TYPE_CHECKING

import httpx

from batch_infer.protocol.regular import open_regular

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from batch_inferd.backends.batch.provider import Content, Upload

PIECE = 256 * 1024


class FormUpload(httpx.AsyncByteStream):
    """The body of a multipart/form-data request. It can be sent once."""

    def __init__(
        self,
        fields: Mapping[str, str],
        filename: str,
        file: Content,
        size: int,
        progress: Callable[[int], None],
    ) -> None:
        """`progress` is told how many bytes of the file have gone out."""
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{_quoted(filename)}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        self._size = size
        self._progress = progress
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(self._head) + size + len(self._tail)),
        }

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body. Raises what reading the file raises, and OSError when it has become shorter."""
        yield self._head
        sent = 0
        while sent < self._size:
            piece = await asyncio.to_thread(self._file.read, min(PIECE, self._size - sent))
            if not piece:
                raise OSError(errno.EIO, "the file became shorter while it was sent")
            yield piece
            sent += len(piece)
            self._progress(sent)
        yield self._tail


async def open_upload(upload: Upload) -> Content:
    """What is to be sent, opened. Raises OSError, also when it has another size."""
    return await asyncio.to_thread(upload.opened or (lambda: _open(upload.path, upload.size)))


def _open(path: str | os.PathLike[str], size: int) -> Content:
    file = os.fdopen(open_regular(path), "rb")  # the caller closes it
    found = os.fstat(file.fileno()).st_size
    if found != size:
        file.close()
        raise OSError(errno.EIO, f"the file has {found} bytes instead of {size}")
    return file


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
