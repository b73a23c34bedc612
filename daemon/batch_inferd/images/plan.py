"""What images a task takes: part of the plan that workers get."""

from __future__ import annotations

import msgspec

from batch_inferd.sources.s3 import S3Access  # noqa: TC001  msgspec reads it when it decodes

FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff")  # those that a config may allow


class ImagePlan(msgspec.Struct, frozen=True):
    """Limits of a single image; `s3` holds secrets. Sizes in bytes."""

    formats: tuple[str, ...] = ("jpeg", "png", "webp", "gif")
    max_bytes: int = 20 * 2**20  # of the file
    max_pixels: int | None = 50_000_000  # width times height; None: as many as Pillow decodes
    max_side: int | None = None  # a longer image is scaled down to it
    fetch_urls: bool = False  # web addresses are fetched here; else they are sent as they are
    s3: S3Access | None = None
