"""References of images: what they point at, and how messages name them."""

from __future__ import annotations

import os
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from batch_inferd.images.errors import ImageError

_SHOWN = 300  # characters
WEB = ("http", "https")


def scheme_of(ref: str) -> str:
    """Such as `file`; an empty string where there is none."""
    scheme, colon, _ = ref.partition(":")
    return scheme.lower() if colon else ""


def shown(ref: str) -> str:
    """The reference for a message: readable, and without what may be a secret in it."""
    scheme = scheme_of(ref)
    if scheme == "data":
        return f"{ref[:30].partition(',')[0]},…"
    if scheme in WEB:
        text = _without_secrets(ref)
    elif ref.startswith("file:///"):
        text = unquote(ref[len("file://") :])
    else:
        text = unquote(ref)
    text = "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _without_secrets(url: str) -> str:
    """Without user and query: a signed address is as good as a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme_of(url)}://…"
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def path_of(ref: str) -> str:
    """The path that a `file:` reference means. Raises ImageError.

    What stands behind `file://` is a path to its end: `?` and `#` belong to it. A host is refused.
    """
    rest = ref[len("file:") :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise ImageError(
                "image_invalid", f"the image {shown(ref)} is on another host, which cannot be read"
            )
        rest = slash + path
    try:
        raw = unquote_to_bytes(rest.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:  # half of a character
        raise ImageError("image_invalid", f"{shown(ref)} is no absolute path of an image") from error
    if not raw.startswith(b"/") or b"\0" in raw:
        raise ImageError("image_invalid", f"{shown(ref)} is no absolute path of an image")
    return _local(raw)


def in_utf8(ref: str) -> str:
    """The same reference as text that can be stored. Raises ImageError for half of a character.

    A lone surrogate in a path stands for a byte that is no UTF-8: it is percent-encoded.
    """
    if ref.isascii():
        return ref
    written = ref
    if scheme_of(ref) == "file":
        written = "".join(f"%{ord(mark) - 0xDC00:02X}" if _is_byte(mark) else mark for mark in ref)
    try:
        written.encode()
    except UnicodeEncodeError as error:
        wrong = f"the image {shown(ref)} cannot be read: half of a character stands in its reference"
        raise ImageError("image_invalid", wrong) from error
    return written


def _is_byte(mark: str) -> bool:
    return "\udc80" <= mark <= "\udcff"


def _local(raw: bytes) -> str:
    """A path as this system writes it; on Windows /C:/folder becomes C:/folder."""
    path = os.fsdecode(raw)
    if os.name == "nt" and len(path) > 2 and path[2] == ":":
        return path[1:]
    return path
