"""Base URLs: brought into one form, or refused with a reason."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from batch_infer.protocol.text import Text

# What people copy from examples behind the base URL.
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/responses")


class BaseUrl(NamedTuple):
    """A base URL without trailing slash and query; `query` is added to every request's URL."""

    url: str
    host: str
    path: str
    query: dict[str, str]


class UrlError(ValueError):
    """The URL cannot be used; `text` says why, and never repeats a password in it."""

    def __init__(self, text: Text) -> None:
        super().__init__(str(text))
        self.text = text


def parse_url(text: str, default_path: str = "") -> BaseUrl:
    """The base URL in `text`, with `default_path` where it has no path. Raises UrlError."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise UrlError(Text("this is not a valid URL; write it like https://host/v1")) from None
    if parts.scheme.lower() not in {"http", "https"}:
        raise UrlError(Text("a base URL must begin with http:// or https://; write it like https://host/v1"))
    if parts.username is not None or parts.password is not None:
        raise UrlError(Text("a base URL must not hold a password; put it into model.password"))
    if not host or any(character.isspace() or ord(character) < 32 for character in text):
        raise UrlError(Text("this is not a valid URL; write it like https://host/v1"))
    if set(query) - {"api-version"}:
        # Anything else may be a key, and a URL is shown and stored.
        raise UrlError(Text("a base URL may have no query but api-version; put keys into model.headers"))
    path = parts.path.rstrip("/")
    for endpoint in _ENDPOINTS:
        if path.endswith(endpoint):
            path = path.removesuffix(endpoint).rstrip("/")
            break
    path = path or default_path
    name = f"[{host}]" if ":" in host else host
    authority = name if port is None else f"{name}:{port}"
    return BaseUrl(f"{parts.scheme.lower()}://{authority}{path}", host, path, query)


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this very machine: localhost, 127.0.0.0/8, ::1."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
