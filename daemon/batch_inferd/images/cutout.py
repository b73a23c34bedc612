"""Images left out of a request until it is sent: what takes their place, and putting them back.

A packed file of a thousand requests would hold gigabytes of base64. It holds this much of an image
instead, and the image goes from its source into the upload.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import msgspec

from batch_inferd.images.dimensions import dimensions
from batch_inferd.images.embed import references, too_large
from batch_inferd.images.errors import ImageError
from batch_inferd.images.load import load, read
from batch_inferd.images.refs import in_utf8, shown

if TYPE_CHECKING:
    from batch_inferd.images.plan import ImagePlan

HOLE = b"\0"  # in the place of an image: JSON has no such byte


class Cutout(msgspec.Struct, frozen=True):
    """An image that was found good: `size` and `digest` (SHA-256) are of the bytes that will be sent."""

    ref: str  # UTF-8: it is written into the packed file
    media: str  # such as image/jpeg
    size: int
    digest: str
    scaled: bool = False

    @property
    def sent_size(self) -> int:
        """Bytes of the JSON string that it becomes."""
        return len(self._opening()) + (self.size + 2) // 3 * 4 + 1

    def restored(self, plan: ImagePlan) -> bytes:
        """The JSON string with the image. Blocks. Raises ImageError, also when it is another one now."""
        data = load(self.ref, plan).data if self.scaled else read(self.ref, plan)
        if len(data) != self.size or hashlib.sha256(data).hexdigest() != self.digest:
            wrong = f"the image {shown(self.ref)} changed before it was sent"
            raise ImageError("image_unreadable", wrong)
        return b'%b%b"' % (self._opening(), base64.b64encode(data))

    def _opening(self) -> bytes:
        return b'"data:%b;base64,' % self.media.encode()


class Cut(msgspec.Struct, frozen=True):
    """A body with holes, and what belongs into them, in order; the sizes of the images in pixels."""

    body: bytes
    images: list[Cutout]
    pixels: list[tuple[int, int] | None]


def cut(body: bytes, plan: ImagePlan, limit: int | None = None) -> Cut:
    """Load the images of a body one after the other, check them, and leave them out.

    `limit` is the most bytes that the body may have with them. Blocks. Raises ImageError.
    """
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    images: list[Cutout] = []
    pixels: list[tuple[int, int] | None] = []
    size, cursor = len(body), 0
    for one in references(body, fetch_urls=plan.fetch_urls):
        ref = in_utf8(one.ref)
        image = load(ref, plan)
        digest = hashlib.sha256(image.data).hexdigest()
        images.append(Cutout(ref, image.media_type, len(image.data), digest, image.scaled))
        known = image.width and image.height
        pixels.append((image.width or 0, image.height or 0) if known else dimensions(image.data))
        del image
        parts += (view[cursor : one.begin], HOLE)
        cursor = one.end
        size += images[-1].sent_size - (one.end - one.begin)
        if limit is not None and size > limit:
            raise too_large(limit)
    parts.append(view[cursor:])
    return Cut(b"".join(parts), images, pixels)
