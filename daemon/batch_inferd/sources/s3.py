"""Objects of S3 and of whatever speaks like it: listing a prefix and reading a key. Everything blocks.

Over httpx, which is here anyway, since clients that bring file-like paths of their own cannot name every
key: S3 allows `a//b.png` and `50%.png`. So no extra is needed.
"""

from __future__ import annotations

import random
import re
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote

from batch_inferd.sources.s3access import S3Access, access_from
from batch_inferd.sources.s3errors import S3Denied, S3Error, S3Missing, S3TooLarge, S3Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "S3Access", "S3Denied", "S3Error", "S3Missing", "S3TooLarge", "S3Unreachable",
    "access_from", "is_bucket", "list_objects", "parse_reference", "read_object", "reference", "split_url",
]  # fmt: skip

ATTEMPTS = 6
FIRST_WAIT_S = 0.2  # then twice as long each time: about six seconds in all
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")  # as all services and all of their times have them

_T = TypeVar("_T")


def split_url(url: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key` as a person writes it: nothing in it is an escape."""
    bucket, _, key = url[len("s3://") :].partition("/")
    return bucket, key


def is_bucket(name: str) -> bool:
    """Whether it may be the name of a bucket. Nothing else goes into an address, be it into the host."""
    return _BUCKET.fullmatch(name) is not None


def reference(bucket: str, key: str) -> str:
    """The reference of an object as it stands in a canonical line: the key is percent-encoded."""
    return f"s3://{bucket}/{quote(key, safe='/')}"


def parse_reference(ref: str) -> tuple[str, str]:
    """The inverse of `reference`: bucket and key."""
    bucket, key = split_url(ref)
    return bucket, unquote(key)


def list_objects(
    access: S3Access, bucket: str, prefix: str, start_after: str = ""
) -> Iterator[tuple[str, int]]:
    """Key and size (bytes) of every object whose key begins with `prefix`, page by page, in key order.

    `start_after`: only keys behind this one. A page that does not come is asked for again, some seconds
    long. Raises S3Missing (no such bucket), S3Denied, S3Unreachable, S3Error.
    """
    from batch_inferd.sources.s3http import list_page  # noqa: PLC0415  to name objects, no httpx is needed

    token: str | None = None
    while True:
        page = _retrying(partial(list_page, access, bucket, prefix, start_after, token))
        for key, size in page.objects:
            if key > start_after:  # some services do not know start-after
                yield key, size
        if page.token is None:
            return
        if page.token == token:
            raise S3Error(f"s3://{bucket}/{prefix}: the service repeats a page of the listing")
        token = page.token


def read_object(access: S3Access, bucket: str, key: str, max_bytes: int) -> bytes:
    """The object's content, as it is stored. Transient failures are tried again, some seconds long.

    Raises S3Missing, S3Denied, S3TooLarge, S3Unreachable, S3Error.
    """
    from batch_inferd.sources.s3http import get_object  # noqa: PLC0415  as above

    return _retrying(partial(get_object, access, bucket, key, max_bytes))


def _retrying(call: Callable[[], _T]) -> _T:
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except S3Unreachable:
            wait = FIRST_WAIT_S * 2 ** (attempt - 1)
            time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  jitter
    return call()
