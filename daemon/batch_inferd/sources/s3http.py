"""The two requests of S3 that are needed, signed with AWS Signature Version 4."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import ssl
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree as ET  # expat bounds what entities expand to

import httpx

from batch_infer.version import __version__
from batch_inferd.sources.s3 import is_bucket
from batch_inferd.sources.s3errors import S3Denied, S3Error, S3Missing, S3TooLarge, S3Unreachable
from batch_inferd.sources.text import unmarked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.sources.s3 import S3Access

PAGE_KEYS = 1000
_MAX_PAGE = 16 * 2**20  # bytes; keys have 1,024 at most
_MAX_WORDS = 64 * 1024  # of an error
_DEFAULT_REGION = "us-east-1"
_NO_BODY = hashlib.sha256(b"").hexdigest()
_TIMEOUT = httpx.Timeout(60, connect=10)
# These want the bucket in the host's name.
_VIRTUAL_HOSTS = (".aliyuncs.com", ".myqcloud.com", ".volces.com")
_IN_HOST = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # a dot would not fit AWS's certificate
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"})

for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they log every address

_regions: dict[tuple[str | None, str], str] = {}  # of buckets that lie elsewhere than we thought


class Page(NamedTuple):
    """Keys with sizes (bytes), and the token of the next page, None on the last one."""

    objects: list[tuple[str, int]]
    token: str | None


def list_page(access: S3Access, bucket: str, prefix: str, start_after: str, token: str | None) -> Page:
    """One page of a listing. `token` is the one of the page before; `start_after` counts without one."""
    query = {"list-type": "2", "prefix": prefix, "max-keys": str(PAGE_KEYS), "encoding-type": "url"}
    if token is not None:
        query["continuation-token"] = token
    elif start_after:
        query["start-after"] = start_after
    where = f"s3://{bucket}/{prefix}"
    data = _request(access, bucket, "", query, _MAX_PAGE, where)
    try:
        root = ET.fromstring(data)  # noqa: S314  see the import
        plain = _text(root, "EncodingType") != "url"
        objects = [
            (key if plain else unquote_plus(key), int(_text(item, "Size") or 0))
            for item in root.iterfind("{*}Contents")
            if (key := _text(item, "Key"))
        ]
        more = _text(root, "IsTruncated") == "true"
    except (ET.ParseError, ValueError) as error:
        raise S3Unreachable(f"{where}: the listing cannot be read: {error}") from error
    next_token = _text(root, "NextContinuationToken")
    if more and not next_token:
        raise S3Error(f"{where}: the service lists a part, and does not say how to go on")
    return Page(objects, next_token if more else None)


def get_object(access: S3Access, bucket: str, key: str, max_bytes: int) -> bytes:
    """An object's content. Raises as `read_object`, without trying again."""
    return _request(access, bucket, key, {}, max_bytes, unmarked(f"s3://{bucket}/{key}"))


def _text(item: ET.Element, name: str) -> str | None:
    return item.findtext(f"{{*}}{name}")


def _request(
    access: S3Access, bucket: str, key: str, query: Mapping[str, str], max_bytes: int, where: str
) -> bytes:
    at = (access.endpoint, bucket)
    region = _regions.get(at) or access.region or _DEFAULT_REGION
    for last in (False, True):
        try:
            url = _url(access.endpoint, bucket, key, region, query)
            with _client(access.proxy).stream("GET", url, headers=_signed(access, url, region)) as reply:
                if reply.status_code == 200:
                    return _body(reply, max_bytes, where)
                told = reply.headers.get("x-amz-bucket-region")
                if told and told != region and not last:
                    _regions[at] = region = told
                    continue
                words = _body(reply, _MAX_WORDS, where, cut=True)
                raise _refused(reply.status_code, words, where, access)
        except (httpx.TransportError, ssl.SSLError) as error:
            raise S3Unreachable(f"{where}: {str(error) or type(error).__name__}") from error
        except (httpx.InvalidURL, ValueError) as error:  # of the host's name too, when it is looked up
            raise S3Error(f"{where}: {getattr(error, 'reason', error)}") from error
    raise AssertionError("the second pass ends")


def _body(reply: httpx.Response, max_bytes: int, where: str, *, cut: bool = False) -> bytes:
    """At most so many bytes; more are an error, or cut off. As they are stored: nothing is unpacked."""
    length = reply.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes and not cut:
        raise S3TooLarge(f"{where}: {length} bytes, allowed are {max_bytes}")
    data = bytearray()
    for piece in reply.iter_raw():
        data += piece
        if len(data) > max_bytes:
            if cut:
                return bytes(data[:max_bytes])
            raise S3TooLarge(f"{where}: more than {max_bytes} bytes are allowed")
    return bytes(data)


def _refused(status: int, body: bytes, where: str, access: S3Access) -> S3Error:
    try:
        root = ET.fromstring(body)  # noqa: S314  see the import
        code, message = _text(root, "Code") or "", _text(root, "Message") or ""
    except ET.ParseError:
        code, message = "", body[:200].decode("utf-8", "replace").strip()
    said = ": ".join(part for part in (code, message[:300]) if part)
    text = f"{where}: HTTP {status}" + (f", {said}" if said else "")
    if status in _TRANSIENT or code in _TRANSIENT_CODES:
        return S3Unreachable(text)
    if status == 404:
        return S3Missing(text)
    if status in (401, 403):
        if not access.access_key_id and not access.anonymous:
            text += "; no keys are set (input.s3, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        return S3Denied(text)
    return S3Error(text)


def _url(endpoint: str | None, bucket: str, key: str, region: str, query: Mapping[str, str]) -> str:
    """The address. Raises S3Error for a bucket that is none: what it says may be part of the host's name."""
    if not is_bucket(bucket):
        raise S3Error(f'"{unmarked(bucket[:200])}" is no name of a bucket')
    path = "/" + quote(key, safe="/")
    if endpoint is None:
        end = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        base = f"https://s3.{region}.{end}"
        if _IN_HOST.fullmatch(bucket):
            base = f"https://{bucket}.s3.{region}.{end}"
        else:
            path = f"/{bucket}{path}"
    elif "{bucket}" in endpoint:
        base = endpoint.replace("{bucket}", bucket)
    else:
        parts = urlsplit(endpoint)
        if (parts.hostname or "").endswith(_VIRTUAL_HOSTS):
            base = f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}"
        else:
            base, path = endpoint, f"/{quote(bucket)}{path}"
    pairs = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query))
    return f"{base}{path}" + (f"?{pairs}" if pairs else "")


def _signed(access: S3Access, url: str, region: str) -> dict[str, str]:
    """The headers of a GET without body."""
    if access.anonymous or not access.access_key_id or not access.secret_access_key:
        return {}
    parts = urlsplit(url)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": _NO_BODY, "x-amz-date": now}
    if access.session_token:
        headers["x-amz-security-token"] = access.session_token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{parts.path}\n{parts.query}\n{lines}\n{names}\n{_NO_BODY}"
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{access.secret_access_key}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}".encode(), "sha256").hex()
    who = f"AWS4-HMAC-SHA256 Credential={access.access_key_id}/{scope}"
    return headers | {"authorization": f"{who}, SignedHeaders={names}, Signature={signature}"}


@lru_cache(8)
def _client(proxy: str | None) -> httpx.Client:
    """Connections that are kept; for all threads, for as long as the process lives."""
    return httpx.Client(
        verify=_tls(),
        trust_env=False,
        proxy=proxy,
        timeout=_TIMEOUT,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
        headers={"User-Agent": f"batch_infer/{__version__}", "Accept-Encoding": "identity"},
    )


@lru_cache(1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # the system's CAs; SSL_CERT_FILE and SSL_CERT_DIR count
