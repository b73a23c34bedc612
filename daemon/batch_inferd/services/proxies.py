"""Which proxy a base URL is reached through, by the settings of the submitting shell."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

from batch_infer.protocol.text import Text
from batch_inferd.config.problems import shown
from batch_inferd.services.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping


class ProxyError(ValueError):
    """The proxy cannot be used; `text` says why."""

    def __init__(self, text: Text) -> None:
        super().__init__(str(text))
        self.text = text


def proxy_for(base_url: str, proxy: Mapping[str, str]) -> str | None:
    """The proxy's URL, None for a direct connection. Raises ProxyError.

    `proxy` has the shell's `http`, `https`, `all` and `no`, absent ones left out. Loopback addresses
    are always reached directly.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    found = proxy.get(parts.scheme) or proxy.get("all")
    if not found or _bypassed(host, parts.port, proxy.get("no", "")):
        return None
    url = found.strip()
    if "://" not in url:
        url = f"http://{url}"
    scheme = url.partition("://")[0].lower()
    if scheme not in {"http", "https"}:
        socks = Text(
            "the shell's proxy is of the kind {scheme}, which is not supported; "
            "set https_proxy to an HTTP proxy, or add {host} to no_proxy",
            {"scheme": shown(scheme), "host": host},
        )
        raise ProxyError(socks)
    try:
        proxy_parts = urlsplit(url)
        usable = bool(proxy_parts.hostname) and (proxy_parts.port is None or proxy_parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ProxyError(Text("the shell's proxy is not a valid URL; set it like http://host:3128"))
    return url


def has_password(proxy: str) -> bool:
    """Whether a proxy's URL holds a user name or a password."""
    return urlsplit(proxy).username is not None


def _bypassed(host: str, port: int | None, no: str) -> bool:
    if not no:
        return False
    authority = host if port is None else f"{host}:{port}"
    return bool(proxy_bypass_environment(authority, proxies={"no": no}))
