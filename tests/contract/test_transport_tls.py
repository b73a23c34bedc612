"""Whom a transport trusts, and what it says of those that it does not."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trustme
from transport_kit import (
    CLIENTS,
    OK,
    RawServer,
    client,
    not_sent,
    ours,
    post,
    saying,
    target,
    transport,
)
from transport_tls import authority, certified, expired, trusted

from batch_inferd.backends.plan import Timeouts
from batch_inferd.backends.transport import NotSent

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["authority", "client", "transport"]


async def test_an_authority_of_the_shell_is_trusted(client, authority, monkeypatch):
    async with (
        RawServer(saying(OK), certified(authority)) as server,
        trusted(client, authority, monkeypatch) as transport,
    ):
        assert (await post(transport, server.url)).status == 200
        await transport.probe(server.url, None, 5.0)


def subject_hash(certificate: Path) -> str:
    command = ["openssl", "x509", "-hash", "-noout", "-in", certificate]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


async def test_a_folder_of_authorities_is_trusted(client, authority, monkeypatch, tmp_path):
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / f"{subject_hash(authority.path)}.0").write_bytes(authority.path.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    made = CLIENTS[client]()
    async with RawServer(saying(OK), certified(authority)) as server:
        assert (await post(made, server.url)).status == 200
    await made.close()


async def test_an_unknown_authority_is_not_trusted(transport, authority):
    async with RawServer(saying(OK), certified(authority)) as server:
        error = await not_sent(post(transport, server.url))
        assert (error.reason, error.address) == ("tls", f"localhost:{server.port}")
        assert "certificate is not trusted" in error.detail
        with pytest.raises(NotSent) as caught:
            await transport.probe(server.url, None, 5.0)
        assert caught.value.reason == "tls"
        assert server.requests == []


async def test_another_authority_of_the_same_name_is_not_trusted(client, authority, monkeypatch):
    async with RawServer(saying(OK), certified(trustme.CA())) as server:
        async with trusted(client, authority, monkeypatch) as transport:
            assert (await not_sent(post(transport, server.url))).reason == "tls"
        assert server.requests == []


@pytest.mark.parametrize("case", ["expired", "wrong host"])
async def test_a_certificate_that_is_not_good(client, authority, monkeypatch, case):
    if case == "expired":
        context = certified(authority, not_after=expired())
    else:
        context = certified(authority, "elsewhere.example")
    async with RawServer(saying(OK), context) as server:
        async with trusted(client, authority, monkeypatch) as transport:
            error = await not_sent(post(transport, server.url))
            assert error.reason == "tls"
            assert "certificate is not trusted" in error.detail
            with pytest.raises(NotSent) as caught:
                await transport.probe(server.url, None, 5.0)
            assert caught.value.reason == "tls"
        assert server.requests == []


async def test_tls_to_a_port_that_speaks_plain_http(transport):
    async with RawServer(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n", close=True)) as server:
        url = f"https://127.0.0.1:{server.port}/v1"
        error = await not_sent(post(transport, url, timeouts=Timeouts(1.0, 2.0, 3.0)))
        assert error.reason in {"tls", "connect", "connect_timeout"}


async def test_a_server_that_answers_the_handshake_in_plain_words(transport):
    async def talk(_, writer) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        assert (await not_sent(post(transport, url))).reason == "tls"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_each_current_version_of_tls(client, authority, monkeypatch, version):
    context = certified(authority)
    context.minimum_version = context.maximum_version = version
    async with (
        RawServer(saying(OK), context) as server,
        trusted(client, authority, monkeypatch) as transport,
    ):
        assert (await post(transport, server.url)).status == 200


async def test_a_server_that_offers_http2_is_spoken_to_in_http1(client, authority, monkeypatch):
    context = certified(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with RawServer(saying(OK), context) as server:
        async with trusted(client, authority, monkeypatch) as transport:
            assert (await post(transport, server.url)).status == 200
        assert server.requests[0].startswith(b"POST /v1 HTTP/1.1\r\n")


def self_signed(folder: Path, constraint: str) -> tuple[Path, ssl.SSLContext]:
    certificate, key = folder / "self.pem", folder / "self.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    command += ["-addext", f"basicConstraints=critical,{constraint}", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


@pytest.mark.parametrize("constraint", ["CA:FALSE", "CA:TRUE"])
async def test_a_self_signed_certificate_is_trusted_when_the_shell_says_so(
    client, monkeypatch, tmp_path, constraint
):
    certificate, context = self_signed(tmp_path, constraint)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    made = CLIENTS[client]()
    async with RawServer(saying(OK), context) as server:
        assert (await post(made, server.url)).status == 200
        await made.probe(server.url, None, 5.0)
    await made.close()


class _SlowRoom:
    """There is room after a moment: meanwhile all that the server has to say lies in the system."""

    async def take(self, _: int) -> None:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("length", [True, False], ids=["with its length", "to the end"])
@pytest.mark.parametrize("size", [70_000, 300_000, 2_000_000])
@pytest.mark.parametrize("room", [None, _SlowRoom()], ids=["at once", "with room"])
async def test_a_large_answer_before_the_end_of_the_connection(
    client, authority, monkeypatch, size, length, room
):
    """The end must not overtake what is still to be read."""
    body = bytes(range(256)) * (size // 256)
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
    if length:
        head += b"Content-Length: %d\r\n" % len(body)
    async with (
        RawServer(saying(head + b"\r\n" + body, close=True), certified(authority)) as server,
        trusted(client, authority, monkeypatch) as transport,
    ):
        where = target(server.url, max_bytes=1 << 22)
        for _ in range(4):
            assert (await transport.post(where, b"{}", room)).body == body


@ours
async def test_a_body_that_was_not_wanted_does_not_hold_up_the_next_call(client, authority, monkeypatch):
    """The answer came before the body had gone out: what is left of it must not stand before the next one."""
    context = certified(authority)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if len(heads) == 1:
            writer.write(b"HTTP/1.1 429 No\r\nContent-Length: 2\r\n\r\n{}")
            await enough.wait()
        else:
            await reader.readexactly(2)
            writer.write(OK)
        await writer.drain()
        writer.close()

    heads: list[bytes] = []
    enough = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server, trusted(client, authority, monkeypatch) as transport:
        where = target(f"https://localhost:{server.sockets[0].getsockname()[1]}/v1")
        assert (await transport.post(where, b"x" * (8 << 20))).status == 429
        assert (await transport.post(where, b"{}")).status == 200
        enough.set()
    assert len(heads) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody knows what was heard")
async def test_a_connection_is_kept_when_a_long_body_was_heard(client, authority, monkeypatch):
    async with (
        RawServer(saying(OK), certified(authority)) as server,
        trusted(client, authority, monkeypatch) as transport,
    ):
        where = target(server.url)
        for _ in range(3):
            assert (await transport.post(where, b"x" * 500_000)).status == 200
        assert [len(body) for body in server.bodies] == [500_000] * 3
        assert server.connections == 1
