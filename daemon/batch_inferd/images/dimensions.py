"""Width and height of an image out of its header: nothing is decoded, and little is read."""

from __future__ import annotations

import base64
import binascii
import io
import os
import struct
from typing import TYPE_CHECKING, BinaryIO

from batch_inferd.images import files
from batch_inferd.images.errors import ImageError
from batch_inferd.images.kinds import HEAD_BYTES, kind_of
from batch_inferd.images.refs import path_of, scheme_of, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.images.plan import ImagePlan

_INLINE = 2**20  # characters of a `data:` reference in which a header is looked for
_SEGMENTS = 200  # of a JPEG, before its size
_ENTRIES = 200  # of a TIFF's first directory
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers that carry the size
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # and those without a length
_WIDTH, _HEIGHT = 256, 257  # TIFF tags
_SHORT, _LONG = 3, 4


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of an image, or of its beginning; None where they are not in there."""
    return read_dimensions(io.BytesIO(data))


def dimensions_of(ref: str, plan: ImagePlan) -> tuple[int, int] | None:
    """Those of the image that a reference means, as it is sent; None where this machine cannot see them.

    Files and `data:` are looked at, within the plan's limits; what is elsewhere is not fetched. Blocks.
    """
    try:
        found = _look(ref, plan)
    except (ImageError, OSError, binascii.Error, ValueError):
        return None  # the record tells what is wrong when it is sent
    if found is None or plan.max_side is None:
        return found
    scale = min(1.0, plan.max_side / max(found))
    return max(1, round(found[0] * scale)), max(1, round(found[1] * scale))


def _look(ref: str, plan: ImagePlan) -> tuple[int, int] | None:
    scheme = scheme_of(ref)
    if scheme == "data":
        text = ref[:_INLINE].partition(",")[2]
        return dimensions(base64.b64decode(text[: len(text) // 4 * 4]))
    if scheme == "file":
        with files.open_file(path_of(ref), shown(ref), plan.max_bytes) as (file, _):
            return read_dimensions(file)
    return None


def read_dimensions(file: BinaryIO) -> tuple[int, int] | None:
    """As `dimensions`, of a file that can be read and moved in. Raises OSError."""
    head = file.read(HEAD_BYTES)
    read = _READERS.get(kind_of(head) or "")
    if read is None:
        return None
    try:
        found = read(file, head)
    except struct.error:
        return None  # it ends before
    return found if found is not None and min(found) > 0 else None


def _png(_: BinaryIO, head: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _gif(_: BinaryIO, head: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _bmp(_: BinaryIO, head: bytes) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", head, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", head, 18)
    return abs(width), abs(height)  # upside down is negative


def _webp(_: BinaryIO, head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(file: BinaryIO, _: bytes) -> tuple[int, int] | None:
    """The size is in the frame's header, behind any number of other segments: cameras put previews there."""
    file.seek(2)
    for _segment in range(_SEGMENTS):
        if file.read(1) != b"\xff":
            return None
        marker = file.read(1)
        while marker == b"\xff":  # padding
            marker = file.read(1)
        if not marker:
            return None
        if marker[0] in _ALONE:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker[0] in _FRAMES:
            height, width = struct.unpack(">xHH", file.read(5))
            return width, height
        if length < 2:
            return None
        file.seek(length - 2, os.SEEK_CUR)
    return None


def _tiff(file: BinaryIO, head: bytes) -> tuple[int, int] | None:
    order = "<" if head.startswith(b"II") else ">"
    file.seek(*struct.unpack_from(f"{order}I", head, 4))
    (count,) = struct.unpack(f"{order}H", file.read(2))
    found = {}
    for _entry in range(min(count, _ENTRIES)):
        entry = file.read(12)
        tag, kind = struct.unpack_from(f"{order}HH", entry)
        if tag in (_WIDTH, _HEIGHT) and kind in (_SHORT, _LONG):
            (found[tag],) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", entry, 8)
    return (found[_WIDTH], found[_HEIGHT]) if len(found) == 2 else None


_READERS: dict[str, Callable[[BinaryIO, bytes], tuple[int, int] | None]] = {
    "png": _png,
    "gif": _gif,
    "bmp": _bmp,
    "webp": _webp,
    "jpeg": _jpeg,
    "tiff": _tiff,
}
