"""What a config's section `images` means for a task's requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_inferd.images import pixels
from batch_inferd.images.plan import ImagePlan

if TYPE_CHECKING:
    from batch_inferd.config.schema import Images
    from batch_inferd.sources.s3 import S3Access


def image_plan(settings: Images | None, s3: S3Access | None = None) -> ImagePlan:
    """The limits that the config sets, or the defaults; `s3` is whom objects are read as."""
    if settings is None:
        return ImagePlan(s3=s3)
    return ImagePlan(
        formats=settings.formats,
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        max_side=settings.max_side,
        fetch_urls=settings.fetch_urls,
        s3=s3,
    )


def image_notes(settings: Images | None) -> list[Text]:
    """What a submit says of the section."""
    if settings is None or pixels.available():
        return []
    return [
        Text(
            "Pillow is not installed: images are checked by their first bytes and their size only; "
            "pip install 'batch_infer[images]' decodes each before it is sent"
        )
    ]
