"""Putting images into a request: references become base64, everything else stays byte for byte.

A reference is one only where a message's content has an image: `{"type": "image_url", "image_url": {"url":
"file:///…"}}`, or `"image_url": "file:///…"` as responses have it. The same words in a text are text.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.backends import rawjson
from batch_inferd.images.errors import ImageError
from batch_inferd.images.load import load, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.images.plan import ImagePlan

_LOCAL = (b'"file:', b'"s3:')
_WEB = (b'"http:', b'"https:')
# Strings, and what makes the structure; numbers, words and colons do not matter.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
# Where a reference may stand: keys, and None for a list's item, below any field of the body.
_PLACES = (
    [None, b'"content"', None, b'"image_url"', b'"url"'],
    [None, b'"content"', None, b'"image_url"'],
)
_OBJECT, _ARRAY, _COMMA, _QUOTE = b'{[,"'
_OPENING, _CLOSING = b'"data:%b;base64,', b'"'


class Reference(NamedTuple):
    """An image that a body refers to: the reference, and where its JSON string stands."""

    ref: str
    begin: int
    end: int


def has_references(line: bytes, *, fetch_urls: bool = False) -> bool:
    """Whether there may be a reference; quick, and right when it says no."""
    return b'"file:' in line or b'"s3:' in line or (fetch_urls and b'"http' in line)


def references(line: bytes, *, fetch_urls: bool = False) -> list[Reference]:
    """The images that a JSON object refers to, in order; web addresses where they are to be fetched.

    Raises ImageError for one that cannot be read as a string.
    """
    if not has_references(line, fetch_urls=fetch_urls):
        return []
    wanted = _LOCAL + _WEB if fetch_urls else _LOCAL
    found = []
    for begin, end in _candidates(line):
        if line.startswith(wanted, begin):
            try:
                found.append(Reference(str(rawjson.loads(line[begin:end])), begin, end))
            except rawjson.InvalidJson as error:
                raise ImageError("image_invalid", f"an image's reference is {error}") from error
    return found


def _candidates(line: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of the strings that stand where a reference may."""
    path: list[bytes | None] = []  # the containers around: the key in an object, None in a list
    key_next = False
    for match in _TOKENS.finditer(line):
        begin = match.start()
        mark = line[begin]
        if mark == _QUOTE:
            if key_next:
                path[-1] = match[0]
                key_next = False
            elif 5 <= len(path) <= 6 and path[1:] in _PLACES:
                yield begin, match.end()
        elif mark == _COMMA:
            key_next = bool(path) and path[-1] is not None
        elif mark == _OBJECT:
            path.append(b"")
            key_next = True
        elif mark == _ARRAY:
            path.append(None)
            key_next = False
        else:
            key_next = False
            if path:
                path.pop()


def measure(body: bytes, plan: ImagePlan) -> int:
    """The bytes by which `embed` will lengthen a body, at most, without reading the images.

    Looks at the files. Raises ImageError.
    """
    found = references(body, fetch_urls=plan.fetch_urls)
    return sum(_encoded(size_of(one.ref, plan)) - (one.end - one.begin) for one in found)


def embed(body: bytes, plan: ImagePlan, limit: int | None = None) -> bytes:
    """The body with its images in it, loaded one after the other. Blocks; raises ImageError.

    `limit` is the most bytes that it may have.
    """
    found = references(body, fetch_urls=plan.fetch_urls)
    if not found:
        return body
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    size, cursor = len(body), 0
    for one in found:
        parts.append(view[cursor : one.begin])
        parts += _value(one.ref, plan)
        cursor = one.end
        size += sum(map(len, parts[-3:])) - (one.end - one.begin)
        if limit is not None and size > limit:
            raise too_large(limit)
    parts.append(view[cursor:])
    return b"".join(parts)


def _value(ref: str, plan: ImagePlan) -> tuple[bytes, bytes, bytes]:
    image = load(ref, plan)
    return _OPENING % image.media_type.encode(), base64.b64encode(image.data), _CLOSING


def _encoded(size: int) -> int:
    """Bytes of an image in base64, with its quotes and the longest media type."""
    return (size + 2) // 3 * 4 + len(_OPENING) + len(_CLOSING) + len(b"image/jpeg")


def too_large(limit: int) -> ImageError:
    """A request that would be longer than `limit` bytes with its images."""
    return ImageError("image_too_large", f"the request has more than {limit} bytes with its images")
