"""The way to the service: its name, and a connection."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from batch_infer.protocol.text import Text
from batch_inferd.backends.probe import probe
from batch_inferd.backends.transport import NotSent
from batch_inferd.doctor.check import Check

if TYPE_CHECKING:
    from batch_inferd.services.resolve import Resolved

MAX_CONNECT_S = 15.0
_SHOWN = 3  # addresses
_PORTS = {"http": 80, "https": 443}


class Peer(NamedTuple):
    """Whom connections go to: the service, or the proxy that leads there."""

    host: str
    port: int
    is_proxy: bool


def peer_of(resolved: Resolved) -> Peer:
    """The first host on the way to the service."""
    parts = urlsplit(resolved.proxy or resolved.base_url)
    port = parts.port or _PORTS.get(parts.scheme, 443)
    return Peer(parts.hostname or "", port, resolved.proxy is not None)


async def network(resolved: Resolved) -> list[Check]:
    """`dns` and `connect`; without the second one where the first fails."""
    peer = peer_of(resolved)
    timeout_s = min(resolved.config.execution.timeout.connect, MAX_CONNECT_S)
    checks = [await name(peer, timeout_s)]
    if checks[0].ok:
        checks.append(await connection(resolved, peer, timeout_s))
    return checks


async def name(peer: Peer, timeout_s: float) -> Check:
    """Whether the name of the host leads to an address."""
    begin = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(
                peer.host, peer.port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError) as error:  # a TimeoutError is one of the first
        detail = _words(error)
        text = Text("the name {host} cannot be resolved: {error}", {"host": peer.host, "error": detail})
        hint = Text("check model.domain, and that this machine has a network and a name server")
        if peer.is_proxy:
            hint = Text("check the shell's proxy: https_proxy, http_proxy, all_proxy, no_proxy")
        return Check("dns", False, text, hint)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    params = {"host": peer.host, "addresses": ", ".join(addresses[:_SHOWN]), "ms": _ms(begin)}
    if peer.host in addresses:
        return Check("dns", True, Text("{host} is an address: no name to resolve", params))
    return Check("dns", True, Text("{host} leads to {addresses} ({ms} ms)", params))


async def connection(resolved: Resolved, peer: Peer, timeout_s: float) -> Check:
    """Whether the host takes connections; with TLS where the service wants it and no proxy is between."""
    address = f"{peer.host}:{peer.port}"
    begin = time.monotonic()
    try:
        await probe(resolved.base_url, resolved.proxy, timeout_s)
    except NotSent as error:
        text = Text("no connection to {address}: {error}", {"address": address, "error": error.detail})
        return Check("connect", False, text, _hint(error.reason, resolved))
    params = {"address": address, "ms": _ms(begin)}
    if peer.is_proxy:
        return Check("connect", True, Text("the proxy {address} takes connections ({ms} ms)", params))
    return Check("connect", True, Text("{address} takes connections ({ms} ms)", params))


def _hint(reason: str, resolved: Resolved) -> Text:
    if reason == "tls":
        return Text("check the address, and this machine's clock and certificates (SSL_CERT_FILE)")
    if resolved.proxy is not None:
        return Text("check the shell's proxy: https_proxy, http_proxy, all_proxy, no_proxy")
    if resolved.profile.keyless:
        return Text("is the service running? start it, or check the address in model.domain")
    return Text("check model.domain, the network, and whether this machine needs a proxy (https_proxy)")


def _ms(begin: float) -> int:
    return round((time.monotonic() - begin) * 1000)


def _words(error: Exception) -> Text | str:
    if isinstance(error, TimeoutError):
        return Text("no answer in time")
    return getattr(error, "strerror", None) or type(error).__name__
