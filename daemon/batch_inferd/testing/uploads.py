"""Takes a multipart upload from the socket to the disk; no more than a buffer of it is in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from batch_inferd.seams.files import O_BINARY, O_CLOEXEC, Directory, sync, write_all
from batch_inferd.testing.errors import invalid

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

PREFIX = "upload-"  # of files that are not whole yet
_CHUNK = 256 << 10
_BUFFER = 1 << 20
_FIELD = 64 << 10  # no other field of the form is longer


class Upload(NamedTuple):
    """An upload that is on the disk, under a name that nobody else looks at."""

    path: Path
    filename: str
    bytes: int
    sha256: str
    fields: dict[str, str]  # the form's other fields


async def receive(request: web.BaseRequest, folder: Path, max_bytes: int) -> Upload:
    """Read the form to its end. Raises ApiError (400, 413), OSError, ConnectionError."""
    if not request.content_type.startswith("multipart/"):
        raise invalid("Invalid Content-Type: a file is uploaded as multipart/form-data.")
    form = _Form(folder, max_bytes)
    try:
        async for part in await request.multipart():
            await form.take(part)
        return await form.upload()
    except (ValueError, aiohttp.web.HTTPException) as error:
        await asyncio.to_thread(form.remove)
        raise invalid(f"We could not read the form of your request: {error}") from error
    except BaseException:
        await asyncio.to_thread(form.remove)
        raise


def put(upload: Upload, file_id: str) -> None:
    """Give an upload its name, for good. Raises OSError."""
    upload.path.replace(upload.path.with_name(file_id))
    directory = Directory(upload.path.parent)
    try:
        directory.sync()
    finally:
        directory.close()


def clean(folder: Path) -> None:
    """Remove what a killed service had half received. Raises OSError."""
    for path in folder.glob(f"{PREFIX}*"):
        path.unlink(missing_ok=True)


class _Form:
    """The form as far as it was received."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._writer: _Writer | None = None
        self._filename = ""
        self._fields: dict[str, str] = {}

    async def take(self, part: aiohttp.MultipartReader | aiohttp.BodyPartReader | None) -> None:
        if not isinstance(part, aiohttp.BodyPartReader):
            raise invalid("The form has another form in it.")
        if part.name == "file" and self._writer is None:
            self._filename = (part.filename or "upload").encode("utf-8", "replace").decode()
            self._writer = await asyncio.to_thread(_Writer, self._folder)
            await self._copy(part, self._writer)
        else:
            self._fields[part.name or ""] = (await part.read_chunk(_FIELD)).decode("utf-8", "replace")

    async def upload(self) -> Upload:
        writer = self._writer
        if writer is None:
            raise invalid("Missing required parameter: 'file'.", param="file")
        await asyncio.to_thread(writer.finish)
        return Upload(writer.path, self._filename, writer.bytes, writer.digest.hexdigest(), self._fields)

    def remove(self) -> None:
        if self._writer is not None:
            self._writer.remove()

    async def _copy(self, part: aiohttp.BodyPartReader, writer: _Writer) -> None:
        at_end = False
        while not at_end:
            waiting: list[bytes] = []
            size = 0
            while size < _BUFFER and not at_end:
                chunk = await part.read_chunk(_CHUNK)
                waiting.append(chunk)
                size += len(chunk)
                at_end = not chunk
            await asyncio.to_thread(writer.write, b"".join(waiting))
            if writer.bytes > self._max_bytes:
                message = f"The file is larger than the maximum of {self._max_bytes} bytes."
                raise invalid(message, status=413)


class _Writer:
    """The file of an upload."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{PREFIX}{secrets.token_hex(8)}"
        self.bytes = 0
        self.digest = hashlib.sha256()
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | O_CLOEXEC | O_BINARY, 0o600)

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        self.digest.update(data)
        write_all(self._fd, data)

    def finish(self) -> None:
        sync(self._fd)
        self._close()

    def remove(self) -> None:
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
