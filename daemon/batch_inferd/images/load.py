"""One image: read from where a reference points, checked, scaled down where that is wanted."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.images import files, pixels, remote
from batch_inferd.images.errors import ImageError
from batch_inferd.images.kinds import HEAD_BYTES, MEDIA, check_kind
from batch_inferd.images.refs import WEB, path_of, scheme_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.images.plan import ImagePlan

__all__ = ["ImageError", "Loaded", "load", "read", "size_of"]

_log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """An image as it is sent. Width and height are None where Pillow is not installed.

    `scaled`: it is not the file itself.
    """

    data: bytes
    media_type: str  # such as image/jpeg
    width: int | None
    height: int | None
    scaled: bool = False


def load(ref: str, plan: ImagePlan) -> Loaded:
    """Read and check an image. Blocks; raises ImageError, which names the reference.

    `ref` is `file:///…`, `s3://…`, a web address where the plan fetches those, or `data:…;base64,…`.
    """
    name = shown(ref)
    with _of_the_record(name):
        return _load(ref, name, plan)


def _load(ref: str, name: str, plan: ImagePlan) -> Loaded:
    data = _read(ref, name, plan)
    kind = check_kind(name, data[:HEAD_BYTES], plan.formats)
    if pixels.available():
        found = pixels.examine(name, data, kind, plan)
        return Loaded(found.data, MEDIA[found.kind], found.width, found.height, found.data is not data)
    if plan.max_side is not None:
        wanted = "images.max_side needs Pillow: pip install 'batch_infer[images]'"
        raise ImageError("image_unreadable", f"the image {name} cannot be scaled down; {wanted}")
    return Loaded(data, MEDIA[kind], None, None)


def read(ref: str, plan: ImagePlan) -> bytes:
    """What a reference points at, within the plan's size, and not looked into. Blocks; raises ImageError."""
    name = shown(ref)
    with _of_the_record(name):
        return _read(ref, name, plan)


def size_of(ref: str, plan: ImagePlan) -> int:
    """The most bytes that `load` reads, without reading: a file's size, else the limit. Raises ImageError."""
    if scheme_of(ref) == "file":
        name = shown(ref)
        with _of_the_record(name):
            return files.file_size(path_of(ref), name, plan.max_bytes)
    return plan.max_bytes


@contextlib.contextmanager
def _of_the_record(name: str) -> Iterator[None]:
    """Whatever a reference leads to ends its record; only what the machine lacks is more than that."""
    try:
        yield
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:
        _log.exception("unexpected trouble with the image %s", name)
        wrong = f"the image {name} cannot be read: {type(error).__name__}"
        raise ImageError("image_invalid", wrong) from error


def _read(ref: str, name: str, plan: ImagePlan) -> bytes:
    scheme = scheme_of(ref)
    if scheme == "file":
        return files.read_file(path_of(ref), name, plan.max_bytes, plan.formats)
    if scheme == "s3":
        return remote.read_s3(ref, name, plan.s3, plan.max_bytes)
    if scheme in WEB:
        if not plan.fetch_urls:
            wanted = "images.fetch_urls: true fetches it"
            raise ImageError("image_unreadable", f"the image {name} is on the web; {wanted}")
        return remote.fetch(ref, name, plan.max_bytes)
    if scheme == "data":
        return _inline(ref, name, plan.max_bytes)
    raise ImageError("image_invalid", f"{name} is no reference of an image: file:, s3:, https: and data: are")


def _inline(ref: str, name: str, max_bytes: int) -> bytes:
    head, comma, text = ref.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ImageError("image_invalid", f"the image {name} is not in base64")
    files.within(len(text) // 4 * 3 - 2, name, max_bytes)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("image_invalid", f"the image {name} is not in base64: {error}") from error
