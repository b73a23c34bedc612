from __future__ import annotations

import asyncio
import contextlib
import gzip
import shutil
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiohttp import web

from batch_inferd.backends.aiohttp_transport import AiohttpTransport
from batch_inferd.backends.plan import Timeouts
from batch_inferd.backends.transport import HttpReply, NotSent, SentFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENT = Timeouts(connect=5.0, read=20.0, total=30.0)


class RawServer:
    """Accepts, reads one request, and does what `answer` says with the connection."""

    def __init__(self, answer: Any, context: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.context = context
        self.requests: list[bytes] = []
        self.connections = 0

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.server.wait_closed(), 5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await read_head(reader):
                self.requests.append(head)
                await self.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    return head


def saying(data: bytes, *, close: bool = False) -> Any:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return answer


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    made = AiohttpTransport()
    yield made
    await made.close()


async def post(transport: AiohttpTransport, url: str, **changes: Any) -> HttpReply:
    options = {"timeouts": PATIENT, "proxy": None, "max_bytes": 1 << 20} | changes
    body = options.pop("body", b'{"a":1}')
    return await transport.post(url, {"Authorization": "Bearer x", "X-Own": "1"}, body, **options)


@contextlib.asynccontextmanager
async def app(handler: Any, **options: Any) -> AsyncIterator[str]:
    application = web.Application(client_max_size=1 << 26)
    application.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, **options)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await runner.cleanup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_reply_comes_whole_and_the_request_went_as_given(transport):
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        return web.Response(body=b'{"ok": 1}', status=201, headers={"X-Request-Id": "r1"})

    async with app(handler) as url:
        reply = await post(transport, f"{url}/chat?api-version=2024-10-21&x=%26")
    assert (reply.status, reply.body, reply.headers["x-request-id"]) == (201, b'{"ok": 1}', "r1")
    method, path, headers, body = seen[0]
    assert (method, path, body) == ("POST", "/v1/chat?api-version=2024-10-21&x=%26", b'{"a":1}')
    assert headers["Authorization"] == "Bearer x"
    assert headers["User-Agent"].startswith("batch_infer/")


@pytest.mark.parametrize("size", [1 << 20, 3 << 20])
async def test_a_large_body_arrives_whole(transport, size):
    sizes = []

    async def handler(request: web.Request) -> web.Response:
        sizes.append(len(await request.read()))
        return web.Response(body=b"{}")

    async with app(handler) as url:
        await post(transport, url, body=b"x" * size)
    assert sizes == [size]


async def test_nobody_listens(transport):
    port = free_port()
    with pytest.raises(NotSent) as caught:
        await post(transport, f"http://127.0.0.1:{port}/v1")
    assert (caught.value.reason, caught.value.detail) == ("refused", "connection refused")
    assert caught.value.address == f"127.0.0.1:{port}"
    with pytest.raises(NotSent) as caught:
        await transport.probe(f"http://127.0.0.1:{port}/v1", None, 5.0)
    assert caught.value.reason == "refused"


async def test_a_name_that_does_not_resolve(transport):
    with pytest.raises(NotSent) as caught:
        await post(transport, "http://no-such-host.invalid/v1")
    assert (caught.value.reason, caught.value.address) == ("dns", "no-such-host.invalid:80")
    with pytest.raises(NotSent) as caught:
        await transport.probe("http://no-such-host.invalid/v1", None, 5.0)
    assert caught.value.reason == "dns"


async def test_a_connect_that_takes_too_long_was_not_sent(transport):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(4):  # fill the backlog: further SYNs go unanswered
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect(("127.0.0.1", port))
            with pytest.raises(NotSent) as caught:
                await post(transport, f"http://127.0.0.1:{port}/v1", timeouts=Timeouts(0.2, 20.0, 30.0))
            assert caught.value.reason == "connect_timeout"
            with pytest.raises(NotSent) as caught:
                await transport.probe(f"http://127.0.0.1:{port}/v1", None, 0.2)
            assert caught.value.reason == "connect_timeout"


async def test_a_probe_connects_and_hangs_up(transport):
    async with RawServer(saying(b"")) as server:
        await transport.probe(server.url, None, 5.0)
        assert server.requests == []


async def test_a_drop_after_the_request_may_have_been_sent(transport):
    async def drop(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with RawServer(drop) as server:
        with pytest.raises(SentFailed) as caught:
            await post(transport, server.url)
        assert caught.value.reason == "reset"
        assert len(server.requests) == 1  # a POST is never repeated by itself


async def test_a_drop_on_a_kept_connection_counts_as_sent_and_is_not_repeated(transport):
    once = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    answers = iter([once])

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        data = next(answers, None)
        if data is None:
            writer.close()
        else:
            writer.write(data)

    async with RawServer(answer) as server:
        assert (await post(transport, server.url)).status == 200
        with pytest.raises(SentFailed) as caught:
            await post(transport, server.url)
        assert caught.value.reason == "reset"
        assert (len(server.requests), server.connections) == (2, 1)


async def test_connections_are_kept(transport):
    async with RawServer(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server:
        for _ in range(5):
            await post(transport, server.url)
        assert (len(server.requests), server.connections) == (5, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\nnot gzip!!",
    ],
)
async def test_an_answer_that_is_cut_or_garbled(transport, data):
    async with RawServer(saying(data, close=True)) as server:
        with pytest.raises(SentFailed) as caught:
            await post(transport, server.url)
        assert caught.value.reason == "truncated"


async def test_an_answer_that_is_not_http(transport):
    async with RawServer(saying(b"SSH-2.0-OpenSSH_9\r\n\r\n", close=True)) as server:
        with pytest.raises(SentFailed) as caught:
            await post(transport, server.url)
        assert caught.value.reason == "unparsable"


@pytest.mark.parametrize(
    "timeouts", [Timeouts(5.0, 0.2, 30.0), Timeouts(5.0, 20.0, 0.2)], ids=["read", "total"]
)
async def test_no_answer_in_time(transport, timeouts):
    async def hang(_: Any, __: Any) -> None:
        await asyncio.Event().wait()

    async with RawServer(hang) as server:
        with pytest.raises(SentFailed) as caught:
            await post(transport, server.url, timeouts=timeouts)
        assert caught.value.reason == "timeout"
        assert len(server.requests) == 1
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task() and "_serve" in repr(task.get_coro()):
                task.cancel()


async def test_a_slow_drip_ends_with_the_total_time(transport):
    async def drip(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with RawServer(drip) as server:
        with pytest.raises(SentFailed) as caught:
            await post(transport, server.url, timeouts=Timeouts(5.0, 20.0, 0.3))
        assert caught.value.reason == "timeout"


@pytest.mark.parametrize("length", [True, False])
async def test_an_answer_over_the_cap(transport, length):
    head = b"HTTP/1.1 200 OK\r\n" + (
        b"Content-Length: 5000\r\nConnection: close\r\n" if length else b"Connection: close\r\n"
    )
    async with RawServer(saying(head + b"\r\n" + b"x" * 5000, close=True)) as server:
        with pytest.raises(SentFailed) as caught:
            await post(transport, server.url, max_bytes=4999)
        assert caught.value.reason == "response_too_large"
        assert len((await post(transport, server.url, max_bytes=5000)).body) == 5000


async def test_the_cap_counts_what_comes_out_of_gzip(transport):
    bomb = gzip.compress(b"0" * 10_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with RawServer(saying(head + bomb)) as server:
        with pytest.raises(SentFailed) as caught:
            await post(transport, server.url, max_bytes=1_000_000)
        assert caught.value.reason == "response_too_large"
        assert (await post(transport, server.url, max_bytes=10_000_000)).body == b"0" * 10_000_000


async def test_redirects_are_not_followed_and_cookies_not_kept(transport):
    data = b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with RawServer(saying(data)) as server:
        assert (await post(transport, server.url)).status == 307
        await post(transport, server.url)
        assert len(server.requests) == 2
        assert b"cookie" not in server.requests[1].lower()


async def test_the_environments_proxy_does_not_count(transport, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    async with RawServer(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server:
        assert (await post(transport, server.url)).status == 200


async def test_a_proxy_gets_the_whole_url_and_its_own_credential(transport):
    async with RawServer(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as proxy:
        reply = await post(
            transport, "http://service.invalid/v1", proxy=f"http://us%40er:pw@127.0.0.1:{proxy.port}"
        )
        assert reply.status == 200
        assert proxy.requests[0].startswith(b"POST http://service.invalid/v1 HTTP/1.1")
        assert b"Proxy-Authorization: Basic dXNAZXI6cHc=" in proxy.requests[0]
        await transport.probe("http://service.invalid/v1", f"http://127.0.0.1:{proxy.port}", 5.0)


async def test_a_proxy_that_is_down_or_refuses_the_tunnel(transport):
    port = free_port()
    for url in ("http://service.invalid/v1", "https://service.invalid/v1"):
        with pytest.raises(NotSent) as caught:
            await post(transport, url, proxy=f"http://127.0.0.1:{port}")
        assert (caught.value.reason, caught.value.address) == ("proxy", f"127.0.0.1:{port}")
    async with RawServer(saying(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")) as proxy:
        with pytest.raises(NotSent) as caught:
            await post(transport, "https://service.invalid/v1", proxy=f"http://127.0.0.1:{proxy.port}")
        assert caught.value.reason == "proxy"
        assert "502" in caught.value.detail
        assert proxy.requests[0].startswith(b"CONNECT service.invalid:443")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    path = tmp_path / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(path),
        "-out",
        str(path) + ".crt",
    ]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "both.pem.crt").read_bytes())
    return path


async def test_tls_is_checked_against_the_systems_authorities(transport, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    answer = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    async with RawServer(answer, context) as server:
        url = f"https://localhost:{server.port}/v1"
        with pytest.raises(NotSent) as caught:
            await post(transport, url)
        assert caught.value.reason == "tls"
        assert "certificate" in caught.value.detail
        with pytest.raises(NotSent) as caught:
            await transport.probe(url, None, 5.0)
        assert caught.value.reason == "tls"
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusting = AiohttpTransport()
        try:
            assert (await post(trusting, url)).status == 200
            await trusting.probe(url, None, 5.0)
        finally:
            await trusting.close()


async def test_tls_to_a_port_that_speaks_plain_http(transport):
    async with RawServer(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n", close=True)) as server:
        with pytest.raises(NotSent) as caught:
            await post(transport, f"https://127.0.0.1:{server.port}/v1", timeouts=Timeouts(1.0, 2.0, 3.0))
        assert caught.value.reason in {"tls", "connect", "connect_timeout"}
