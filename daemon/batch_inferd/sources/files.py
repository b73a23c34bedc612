"""A source file as blocks of bytes, decompressed, and what identifies it."""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.regular import open_regular
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

BLOCK = 256 * 1024
HEAD = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS  # with the header of gzip
_GZ_PIECE = 16 * 1024  # of compressed bytes; of a damaged one nothing is unpacked
_ZST_PIECE = 2048  # of compressed bytes: at most 64 MiB come out of them, mostly a few KiB
_MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
_SUFFIXES = {".gz": "gz", ".zst": "zst"}


def pin_file(path: str) -> dict[str, Any]:
    """Path, device, inode, size (bytes) and mtime_ns. Raises InputError: missing, unreadable, no file."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a FIFO must not hang us
    except FileNotFoundError as error:
        raise InputError(
            Text("the input {path} does not exist", {"path": path}), hints=(Text("check the path"),)
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        info = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(info.st_mode):
        raise InputError(Text("the input {path} is not a file", {"path": path}))
    return {
        "path": path,
        "device": info.st_dev,
        "inode": info.st_ino,
        "size": info.st_size,
        "mtime_ns": info.st_mtime_ns,
    }


def unreadable(path: str, error: OSError) -> InputError:
    """The error for a file or folder that the system does not let us read."""
    reason = error.strerror or str(error)
    return InputError(Text("the input {path} cannot be read: {error}", {"path": path, "error": reason}))


def split_suffix(path: str) -> tuple[str, str]:
    """The name's suffix without the one of a compression, lower case, and the compression it promises."""
    stem, suffix = os.path.splitext(path.lower())
    compression = _SUFFIXES.get(suffix, "")
    return (os.path.splitext(stem)[1], compression) if compression else (suffix, "")


def compression_of(path: str) -> str:
    """By the file's first bytes: "gz", "zst" or "". Raises InputError."""
    with _opened(path) as file:
        magic = file.read(4)
    return next((name for start, name in _MAGIC.items() if magic.startswith(start)), "")


def head(path: str, compression: str, size: int = HEAD) -> bytes:
    """The first bytes, decompressed; fewer only where the file ends. Raises InputError."""
    parts: list[bytes] = []
    have = 0
    with contextlib.closing(read_blocks(path, compression)) as blocks:
        for block in blocks:
            parts.append(block)
            have += len(block)
            if have >= size:
                break
    return b"".join(parts)[:size]


def read_blocks(path: str, compression: str) -> Generator[bytes]:
    """The content in blocks, in bounded memory. Raises InputError for a damaged archive, OSError."""
    with _opened(path) as file:
        if compression == "gz":
            yield from _gunzip(path, file)
        elif compression == "zst":
            yield from _unzst(path, file)
        else:
            while block := file.read(BLOCK):
                yield block


def _opened(path: str) -> BinaryIO:
    pin_file(path)
    return os.fdopen(open_regular(path), "rb", buffering=0)


def _gunzip(path: str, file: BinaryIO) -> Iterator[bytes]:
    """All that can be unpacked comes, then the error that says how the archive ends."""
    done = 0
    stream, begun = zlib.decompressobj(_GZIP), False
    while data := file.read(_GZ_PIECE):
        while data:
            if not begun and not (data := data.lstrip(b"\0")):  # some tools fill up the last block
                break
            try:
                block = stream.decompress(data, BLOCK)
            except zlib.error as error:
                raise _damaged(path, done, str(error)) from error
            begun, data = True, stream.unconsumed_tail
            if stream.eof:
                data = stream.unused_data  # another archive may follow
                stream, begun = zlib.decompressobj(_GZIP), False
            if block:
                done += len(block)
                yield block
    if begun:
        if block := stream.flush():
            yield block
        raise _cut_short(path, done + len(block))


def _unzst(path: str, file: BinaryIO) -> Iterator[bytes]:
    try:
        import zstandard  # noqa: PLC0415  an extra
    except ImportError as error:
        raise InputError(
            Text("reading {path} needs the extra `zstd`", {"path": path}),
            hints=(Text("pip install 'batch_infer[zstd]'"),),
        ) from error
    unpacker = zstandard.ZstdDecompressor()
    stream = unpacker.decompressobj()
    done = 0
    data = b""
    begun = False  # the frame that is being read has some bytes
    while True:
        data = data or file.read(_ZST_PIECE)
        if not data:
            if begun:
                raise _cut_short(path, done)
            return
        try:
            block = stream.decompress(data)
        except zstandard.ZstdError as error:
            raise _damaged(path, done, str(error)) from error
        begun, data = True, b""
        if stream.eof:
            data = stream.unused_data
            stream, begun = unpacker.decompressobj(), False
        done += len(block)
        for at in range(0, len(block), BLOCK):
            yield block[at : at + BLOCK]


def _cut_short(path: str, done: int) -> InputError:
    return InputError(
        Text(
            "the compressed input {path} is cut short: it ends in its middle, after {done} unpacked bytes",
            {"path": path, "done": done},
        ),
        hints=(Text("fetch or compress the file again"),),
    )


def _damaged(path: str, done: int, reason: str) -> InputError:
    return InputError(
        Text(
            "the compressed input {path} is damaged after {done} unpacked bytes: {reason}",
            {"path": path, "done": done, "reason": reason},
        ),
        hints=(Text("fetch or compress the file again"),),
    )
