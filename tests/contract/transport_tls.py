"""Certificates of every kind, from an authority that the tests make."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from transport_kit import CLIENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from batch_inferd.backends.transport import HttpTransport


class Authority(trustme.CA):
    """One whose certificate lies in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.cert_pem.write_to_path(path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority.pem")


def certified(authority: trustme.CA, name: str = "localhost", **options: Any) -> ssl.SSLContext:
    """A server's context, with a certificate for this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **options).configure_cert(context)
    return context


def expired() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@contextlib.asynccontextmanager
async def trusted(
    client: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HttpTransport]:
    """A transport in a shell that trusts this authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    transport = CLIENTS[client]()
    try:
        yield transport
    finally:
        await transport.close()
