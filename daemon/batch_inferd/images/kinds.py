"""What a file is by its first bytes: nothing that is no image is ever read whole, or sent."""

from __future__ import annotations

from batch_inferd.images.errors import ImageError

HEAD_BYTES = 32  # as many as `check_kind` needs
MEDIA = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
}
_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)
_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic"}


def kind_of(head: bytes) -> str | None:
    """The format that begins with these bytes; None where it is no image that is known."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "bmp"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    return None


def check_kind(name: str, head: bytes, formats: tuple[str, ...]) -> str:
    """The format of an image that is allowed. Raises ImageError, which shows nothing of the file."""
    kind = kind_of(head)
    if kind is None:
        raise ImageError("image_invalid", f"{name} is no image: it begins like none")
    if kind not in formats:
        raise ImageError("image_invalid", f"the image {name} is {kind}, allowed are {', '.join(formats)}")
    return kind
