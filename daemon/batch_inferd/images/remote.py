"""Images that are not on this machine: objects of S3, and web addresses. Everything here blocks."""

from __future__ import annotations

import logging
import ssl
import time
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from batch_infer.version import __version__
from batch_inferd.backends.traffic import TRAFFIC
from batch_inferd.images.errors import ImageError
from batch_inferd.images.files import within
from batch_inferd.sources import s3

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 30.0  # for connecting, and between two pieces
_TOTAL_S = 300.0
_REDIRECTS = 5
_LATER = frozenset({408, 425, 429})


def read_s3(ref: str, name: str, access: s3.S3Access | None, max_bytes: int) -> bytes:
    """The content of an object. Raises ImageError; `name` is what it calls the object."""
    bucket, key = s3.parse_reference(ref)
    if not bucket or not key:
        raise ImageError("image_invalid", f"{name} names no bucket and key")
    if not s3.is_bucket(bucket):
        raise ImageError("image_invalid", f"the image {name} cannot be read: that is no name of a bucket")
    if access is None:
        wanted = "input.s3 in the config says how to reach it ({}: as the AWS variables do)"
        raise ImageError("image_unreadable", f"the image {name} is in object storage; {wanted}")
    try:
        data = s3.read_object(access, bucket, key, max_bytes)
    except s3.S3Missing as error:
        raise ImageError("image_missing", f"the image {name} does not exist") from error
    except s3.S3TooLarge as error:
        raise ImageError("image_too_large", f"the image {name} has more than {max_bytes} bytes") from error
    except s3.S3Error as error:
        passing = isinstance(error, s3.S3Unreachable)
        raise ImageError(
            "image_unreadable", f"the image {name} cannot be read: {error}", transient=passing
        ) from error
    TRAFFIC.add(received=len(data))
    return data


def fetch(url: str, name: str, max_bytes: int) -> bytes:
    """The content of a web address, without a proxy. Raises ImageError."""
    import httpx  # noqa: PLC0415  few tasks need it here

    try:
        return _fetch(url, name, max_bytes)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
        raise ImageError("image_invalid", f"the image {name} has an address that cannot be used") from error
    except httpx.TooManyRedirects as error:
        raise ImageError("image_unreadable", f"the image {name} is redirected too often") from error
    except httpx.HTTPError as error:
        words = f"{error}" or type(error).__name__
        _later(name, words[:200])


def _fetch(url: str, name: str, max_bytes: int) -> bytes:
    end = time.monotonic() + _TOTAL_S
    with _client().stream("GET", url) as reply:
        if reply.status_code != 200:
            _refused(name, reply.status_code)
        if reply.headers.get("content-encoding", "identity") != "identity":
            raise ImageError(
                "image_unreadable", f"the image {name} comes compressed, which was not asked for"
            )
        length = reply.headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            within(int(length), name, max_bytes)
        data = bytearray()
        for part in reply.iter_raw():
            data += part
            TRAFFIC.add(received=len(part))
            within(len(data), name, max_bytes)
            if time.monotonic() > end:
                _later(name, f"it took more than {_TOTAL_S:.0f} seconds")
    return bytes(data)


def _refused(name: str, status: int) -> NoReturn:
    if status in (404, 410):
        raise ImageError("image_missing", f"the image {name} does not exist (HTTP {status})")
    if status >= 500 or status in _LATER:
        _later(name, f"HTTP {status}")
    raise ImageError("image_unreadable", f"the image {name} cannot be fetched: HTTP {status}")


def _later(name: str, words: str) -> NoReturn:
    raise ImageError("image_unreadable", f"the image {name} cannot be fetched: {words}", transient=True)


@lru_cache(1)
def _client() -> httpx.Client:
    """One for the process: it may be used by several threads."""
    import httpx  # noqa: PLC0415  as above

    for logger in ("httpx", "httpcore"):  # they log addresses, and some are signed
        logging.getLogger(logger).setLevel(logging.WARNING)
    return httpx.Client(
        verify=ssl.create_default_context(),  # the system's CAs; SSL_CERT_FILE and SSL_CERT_DIR count
        timeout=_TIMEOUT_S,
        follow_redirects=True,
        max_redirects=_REDIRECTS,
        trust_env=False,
        headers={"User-Agent": f"batch_infer/{__version__}", "Accept-Encoding": "identity"},
    )
