"""Calls through a proxy: it gets its own credential and nothing else, and its faults are told as its own."""

from __future__ import annotations

import asyncio

import pytest
from transport_kit import (
    OK,
    RawServer,
    client,
    drop,
    failed,
    free_port,
    full_port,
    hanging,
    not_sent,
    post,
    response,
    saying,
    transport,
)
from transport_tls import authority, certified, trusted

from batch_inferd.backends.plan import Timeouts

__all__ = ["authority", "client", "transport"]
SECRET = b"Proxy-Authorization: Basic dXNAZXI6cDp3"  # us@er:p:w
URLS = ["http://service.invalid/v1", "https://service.invalid/v1"]


async def test_a_proxy_gets_the_whole_url_and_its_own_credential(transport):
    async with RawServer(saying(OK)) as proxy:
        url = f"http://us%40er:p%3Aw@127.0.0.1:{proxy.port}"
        assert (await post(transport, "http://service.invalid/v1?a=b", proxy=url)).status == 200
        assert proxy.requests[0].startswith(b"POST http://service.invalid/v1?a=b HTTP/1.1\r\n")
        assert SECRET.lower() in proxy.requests[0].lower()
        assert b"\r\nhost: service.invalid\r\n" in proxy.requests[0].lower()
        assert proxy.bodies == [b'{"a":1}']
        await transport.probe("http://service.invalid/v1", f"http://127.0.0.1:{proxy.port}", 5.0)


async def test_a_proxy_without_a_credential_gets_none(transport):
    async with RawServer(saying(OK)) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        for _ in range(3):
            assert (await post(transport, "http://service.invalid/v1", proxy=url)).status == 200
        assert all(b"proxy-authorization" not in head.lower() for head in proxy.requests)


@pytest.mark.parametrize("user", ["", "us%40er:p%3Aw@"])
async def test_a_tunnel(client, authority, monkeypatch, user):
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(copy(reader, back), copy(there, writer))
        finally:
            back.close()

    async with RawServer(saying(OK), certified(authority)) as server, RawServer(relay) as proxy:
        async with trusted(client, authority, monkeypatch) as transport:
            url = f"http://{user}127.0.0.1:{proxy.port}"
            reply = await post(transport, f"https://localhost:{server.port}/v1", proxy=url)
        assert reply.status == 200
        assert proxy.requests[0].startswith(f"CONNECT localhost:{server.port} HTTP/1.1\r\n".encode())
        assert (SECRET.lower() in proxy.requests[0].lower()) == bool(user)
        assert b"bearer" not in proxy.requests[0].lower()  # the service's credential is not the proxy's
        assert server.requests[0].startswith(b"POST /v1 HTTP/1.1\r\n")
        assert b"proxy-authorization" not in server.requests[0].lower()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("url", URLS)
async def test_a_proxy_that_is_down(transport, url):
    port = free_port()
    error = await not_sent(post(transport, url, proxy=f"http://us:pw@127.0.0.1:{port}"))
    assert (error.reason, error.address) == ("proxy", f"127.0.0.1:{port}")
    assert "refused" in error.detail
    assert "pw" not in str(error)


@pytest.mark.parametrize("url", URLS)
async def test_a_proxy_whose_name_does_not_resolve(transport, url):
    error = await not_sent(post(transport, url, proxy="http://no-proxy.invalid:3128"))
    assert (error.reason, error.address) == ("proxy", "no-proxy.invalid:3128")


@pytest.mark.parametrize("url", URLS)
async def test_a_proxy_that_takes_no_connections(transport, url):
    with full_port() as port:
        proxy = f"http://127.0.0.1:{port}"
        error = await not_sent(post(transport, url, proxy=proxy, timeouts=Timeouts(0.2, 9.0, 9.0)))
        assert (error.reason, error.detail) == ("proxy", "no connection in time")


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_a_proxy_that_refuses_the_tunnel(transport, status):
    async with RawServer(saying(response(b"", status=status), close=True)) as proxy:
        error = await not_sent(post(transport, URLS[1], proxy=f"http://127.0.0.1:{proxy.port}"))
        assert error.reason == "proxy"
        assert proxy.requests[0].startswith(b"CONNECT service.invalid:443")
        assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [saying(b"SSH-2.0\r\n\r\n", close=True), saying(b"", close=True), drop],
    ids=["no http", "closed", "reset"],
)
async def test_a_proxy_that_breaks_at_the_tunnel(transport, answer):
    async with RawServer(answer) as proxy:
        error = await not_sent(post(transport, URLS[1], proxy=f"http://127.0.0.1:{proxy.port}"))
        assert error.reason == "proxy"


async def test_a_proxy_that_never_answers_about_the_tunnel(transport):
    async with RawServer(hanging()) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        error = await not_sent(post(transport, URLS[1], proxy=url, timeouts=Timeouts(0.3, 9.0, 9.0)))
        assert (error.reason, error.detail) == ("proxy", "no connection in time")


async def test_a_tunnel_that_breaks_before_tls(transport):
    async with RawServer(saying(b"HTTP/1.1 200 OK\r\n\r\n", close=True)) as proxy:
        error = await not_sent(post(transport, URLS[1], proxy=f"http://127.0.0.1:{proxy.port}"))
        assert error.reason in {"proxy", "tls"}


async def test_a_proxy_that_forwards_may_have_sent_it(transport):
    async with RawServer(drop) as proxy:
        error = await failed(post(transport, URLS[0], proxy=f"http://127.0.0.1:{proxy.port}"))
        assert error.reason == "reset"


async def test_a_proxys_refusal_of_a_forwarded_call_is_a_reply(transport):
    async with RawServer(saying(response(b"", status="407 Proxy Authentication Required"))) as proxy:
        reply = await post(transport, URLS[0], proxy=f"http://127.0.0.1:{proxy.port}")
        assert reply.status == 407
