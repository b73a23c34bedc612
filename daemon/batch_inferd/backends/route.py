"""The way to a target: what is connected to, through which proxy, and what each request begins with."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from batch_infer.version import __version__
from batch_inferd.backends.decoding import OFFERED

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from batch_inferd.backends.transport import Target

PORTS = {"http": 80, "https": 443}
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.5
_OWN = {
    "user-agent": f"batch_infer/{__version__}",
    "accept": "*/*",
    "accept-encoding": OFFERED,
}
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})  # the connection's own
_SAFE = "%/?:@!$&'()*+,;=~-._[]"  # what stays in a path as it is: it may be encoded already


class Hop:
    """A host to connect to. `address` is host:port as people write it."""

    __slots__ = ("address", "host", "port", "secure")

    def __init__(self, parts: SplitResult) -> None:
        """Raises ValueError for a port that is none."""
        if not parts.hostname or parts.scheme not in PORTS:
            raise ValueError("no host")
        self.secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or PORTS[parts.scheme]
        name = f"[{self.host}]" if ":" in self.host else self.host
        self.address = f"{name}:{self.port}"


class Route:
    """Of one target. `first` is the proxy, or the service itself where there is none.

    `tunnel` is what a proxy is asked to open one with; None: the connection to `first` is all there is.
    """

    __slots__ = ("first", "head", "proxied", "service", "tunnel")

    def __init__(self, target: Target) -> None:
        """Raises ValueError for a URL, a proxy or a header that is none; its words hold no header."""
        parts = urlsplit(target.url)
        proxy = None if target.proxy is None else urlsplit(target.proxy)
        self.service = Hop(parts)
        self.first = self.service if proxy is None else Hop(proxy)
        self.proxied = proxy is not None
        for_proxy = _credential(proxy)
        self.tunnel = None
        if proxy is not None and self.service.secure:
            lines = [f"CONNECT {_authority(self.service)} HTTP/1.1", f"Host: {_authority(self.service)}"]
            self.tunnel = "\r\n".join([*lines, *for_proxy, "", ""]).encode("ascii")
            for_proxy = []
        self.head = _head(target, parts, self.service, absolute=proxy is not None, more=for_proxy)


def _head(target: Target, parts: SplitResult, service: Hop, *, absolute: bool, more: list[str]) -> bytes:
    """All of a request up to the value of its last header, the length."""
    path = quote(parts.path or "/", safe=_SAFE) + (
        f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    )
    host = _authority(service)
    if service.port == PORTS[parts.scheme]:
        host = host.rpartition(":")[0]
    if absolute and not service.secure:
        path = f"http://{host}{path}"
    given = {name.lower() for name in target.headers}
    headers = {name.title(): value for name, value in _OWN.items() if name not in given} | dict(
        target.headers
    )
    if "host" not in given:
        headers = {"Host": host} | headers
    lines = [f"POST {path} HTTP/1.1".encode("ascii")]
    lines += [_line(name, value) for name, value in headers.items() if name.lower() not in _FRAMING]
    lines += [line.encode("ascii") for line in more]
    return b"\r\n".join([*lines, b"Content-Length: "])


def _line(name: str, value: str) -> bytes:
    raw_name, raw_value = name.encode(), value.strip(" \t").encode()
    if not _NAME.fullmatch(raw_name) or not _VALUE.fullmatch(raw_value):
        raise ValueError("a header is none")
    return raw_name + b": " + raw_value


def _authority(hop: Hop) -> str:
    """host:port as the protocol writes it."""
    name = hop.host if hop.host.isascii() else hop.host.encode("idna").decode("ascii")
    return f"[{name}]:{hop.port}" if ":" in name else f"{name}:{hop.port}"


def _credential(proxy: SplitResult | None) -> list[str]:
    if proxy is None or proxy.username is None:
        return []
    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return [f"Proxy-Authorization: Basic {base64.b64encode(words).decode('ascii')}"]
