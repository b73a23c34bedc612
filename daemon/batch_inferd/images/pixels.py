"""Decoding and scaling with Pillow (the extra `images`), where it is installed.

An image is decoded to see that it is whole; what is sent is the file as it is, unless it is scaled down.
The number of pixels is looked at before any is decoded, and one image at a time is decoded in a process:
its pixels take up to four bytes each.
"""

from __future__ import annotations

import importlib.util
import io
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.images.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from batch_inferd.images.plan import ImagePlan

PIXELS_MAX = 178_956_970  # where Pillow itself takes an image for a decompression bomb
_QUALITY = 90  # of a scaled JPEG or WebP
_SCALABLE = frozenset({"L", "LA", "RGB", "RGBA"})
_one_at_a_time = threading.Lock()


class Picture(NamedTuple):
    """An image that was found good; `kind` is its format."""

    data: bytes
    kind: str
    width: int
    height: int


@lru_cache(1)
def available() -> bool:
    """Whether Pillow is installed."""
    return importlib.util.find_spec("PIL") is not None


def examine(name: str, data: bytes, kind: str, plan: ImagePlan) -> Picture:
    """Decode an image of a known format, and scale it down where the plan says so. Raises ImageError.

    `name` is what messages call it. Needs Pillow.
    """
    from PIL import Image  # noqa: PLC0415  optional, and slow to import

    with _one_at_a_time:
        try:
            with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
                _check_pixels(name, image.size, plan)
                width, height = image.size
                if plan.max_side is not None and max(width, height) > plan.max_side:
                    return _scaled(name, image, kind, plan.max_side)
                image.draft(
                    None, (1, 1)
                )  # a JPEG is read to its end all the same, in a fraction of the memory
                image.load()
        except ImageError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
            raise ImageError("image_too_large", f"the image {name} has too many pixels") from error
        except Exception as error:  # a decoder raises whatever a broken file leads it to
            words = f"{error}" or type(error).__name__
            raise ImageError("image_invalid", f"the image {name} cannot be decoded: {words[:200]}") from error
    return Picture(data, kind, width, height)


def _check_pixels(name: str, size: tuple[int, int], plan: ImagePlan) -> None:
    width, height = size
    most = PIXELS_MAX if plan.max_pixels is None else min(plan.max_pixels, PIXELS_MAX)
    if width * height > most:
        found = f"{width} x {height} pixels, allowed are {most} in all"
        raise ImageError("image_too_large", f"the image {name} has {found}")


def _scaled(name: str, image: Image, kind: str, side: int) -> Picture:
    """The first frame with its longer side at `side`, upright, without metadata but the colour profile.

    JPEG and WebP stay what they are, all others become PNG.
    """
    from PIL import ImageOps  # noqa: PLC0415  as above

    profile = image.info.get("icc_profile")
    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in ("CMYK", "YCbCr"):
        image, profile = image.convert("RGB"), None
    elif image.mode not in _SCALABLE:
        raise ImageError("image_invalid", f"the image {name} cannot be scaled down: its mode is {image.mode}")
    image.thumbnail((side, side))
    ImageOps.exif_transpose(image, in_place=True)
    kind = kind if kind in ("jpeg", "webp") else "png"
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), quality=_QUALITY, icc_profile=profile)
    return Picture(buffer.getvalue(), kind, *image.size)
