"""What fails, and whether anything was sent by then."""

from __future__ import annotations

import asyncio
import socket

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
    ours,
    post,
    saying,
    target,
    transport,
)

from batch_inferd.backends.plan import Timeouts
from batch_inferd.backends.transport import NotSent

__all__ = ["client", "transport"]


async def test_nobody_listens(transport):
    port = free_port()
    error = await not_sent(post(transport, f"http://127.0.0.1:{port}/v1"))
    assert (error.reason, error.detail) == ("refused", "connection refused")
    assert error.address == f"127.0.0.1:{port}"
    with pytest.raises(NotSent) as caught:
        await transport.probe(f"http://127.0.0.1:{port}/v1", None, 5.0)
    assert (caught.value.reason, caught.value.address) == ("refused", f"127.0.0.1:{port}")


async def test_a_name_that_does_not_resolve(transport):
    error = await not_sent(post(transport, "http://no-such-host.invalid/v1"))
    assert (error.reason, error.address) == ("dns", "no-such-host.invalid:80")
    with pytest.raises(NotSent) as caught:
        await transport.probe("http://no-such-host.invalid/v1", None, 5.0)
    assert (caught.value.reason, caught.value.address) == ("dns", "no-such-host.invalid:80")


async def test_an_address_that_no_way_leads_to(transport):
    error = await not_sent(post(transport, "http://[2001:db8::1]:8080/v1", timeouts=Timeouts(0.3, 9.0, 9.0)))
    assert error.reason in {"unreachable", "connect_timeout"}


@pytest.mark.parametrize(
    "timeouts",
    [Timeouts(0.2, 20.0, 30.0), Timeouts(5.0, 0.2, 30.0), Timeouts(5.0, 20.0, 0.2)],
    ids=["connect", "read shorter", "total shorter"],
)
async def test_a_connect_that_takes_too_long_was_not_sent(transport, timeouts, client):
    if client == "aiohttp" and timeouts.read < 1:
        pytest.skip("its time between bytes does not run while it connects")
    with full_port() as port:
        error = await not_sent(post(transport, f"http://127.0.0.1:{port}/v1", timeouts=timeouts))
        assert error.reason == "connect_timeout"
        with pytest.raises(NotSent) as caught:
            await transport.probe(f"http://127.0.0.1:{port}/v1", None, 0.2)
        assert caught.value.reason == "connect_timeout"


async def test_a_url_that_no_client_can_be_made_for(transport):
    error = await not_sent(post(transport, "http://127.0.0.1:99999/v1"))
    assert error.reason == "connect"


@ours
async def test_a_credential_that_is_no_header_is_not_told(transport):
    call = post(transport, "http://127.0.0.1:9/v1", headers={"Authorization": "Bearer se\ncret"})
    error = await not_sent(call)
    assert (error.reason, error.address) == ("connect", "127.0.0.1:9")
    assert "cret" not in f"{error} {error.__cause__}"


async def test_a_drop_after_the_request_may_have_been_sent(transport):
    async with RawServer(drop) as server:
        assert (await failed(post(transport, server.url))).reason == "reset"
        assert len(server.requests) == 1  # a POST is never repeated by itself


async def test_a_server_that_hangs_up_without_an_answer(transport):
    async with RawServer(saying(b"", close=True)) as server:
        assert (await failed(post(transport, server.url))).reason == "reset"
        assert len(server.requests) == 1


async def test_a_connection_that_is_half_closed(transport):
    async def half(_, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await asyncio.sleep(0)

    async with RawServer(half) as server:
        assert (await failed(post(transport, server.url))).reason == "reset"
        assert len(server.requests) == 1


async def test_a_peer_that_takes_the_request_and_is_never_heard_of(transport):
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:  # nobody accepts: the system does
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        assert (await failed(post(transport, url, timeouts=Timeouts(5.0, 0.3, 30.0)))).reason == "timeout"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\nnot gzip!!",
    ],
    ids=["length", "no byte of the length", "in a chunk", "no last chunk", "no gzip"],
)
async def test_an_answer_that_is_cut_or_garbled(transport, data):
    async with RawServer(saying(data, close=True)) as server:
        assert (await failed(post(transport, server.url))).reason == "truncated"
        assert len(server.requests) == 1


async def test_a_reset_in_the_middle_of_an_answer(transport):
    async def cut(_, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        await writer.drain()
        writer.transport.abort()

    async with RawServer(cut) as server:
        assert (await failed(post(transport, server.url))).reason in {"truncated", "reset"}


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nNo Header: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
    ],
    ids=["ssh", "status", "negative", "huge", "two lengths", "header", "http/2"],
)
async def test_an_answer_that_is_not_http(transport, data):
    async with RawServer(saying(data, close=True)) as server:
        assert (await failed(post(transport, server.url))).reason == "unparsable"
        assert len(server.requests) == 1


async def test_a_head_that_ends_in_its_middle(transport):
    async with RawServer(saying(b"HTTP/1.1 200 OK\r\nContent-Le", close=True)) as server:
        assert (await failed(post(transport, server.url))).reason in {"reset", "unparsable"}


@pytest.mark.parametrize(
    "head", [b"X-Long: " + b"x" * 1_000_000, b"X-A: b\r\n" * 100_000], ids=["one long", "many"]
)
async def test_headers_without_end(transport, head):
    async with RawServer(saying(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", close=True)) as server:
        assert (await failed(post(transport, server.url))).reason == "unparsable"


async def test_headers_of_a_decent_size(transport):
    data = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 32_000 + b"\r\n" + b"X-A: b\r\n" * 60
    async with RawServer(saying(data + b"Content-Length: 2\r\n\r\n{}")) as server:
        assert len((await post(transport, server.url)).headers["x-long"]) == 32_000


@pytest.mark.parametrize(
    "timeouts", [Timeouts(5.0, 0.2, 30.0), Timeouts(5.0, 20.0, 0.2)], ids=["read", "total"]
)
@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"],
    ids=["nothing", "in the head", "in the body"],
)
async def test_no_answer_in_time(transport, timeouts, data):
    async with RawServer(hanging(data)) as server:
        assert (await failed(post(transport, server.url, timeouts=timeouts))).reason == "timeout"
        assert len(server.requests) == 1
        await server.until(lambda: server.open == 0)  # it hung up, too


@pytest.mark.parametrize("where", ["head", "body"])
async def test_a_slow_drip_ends_with_the_total_time(transport, where):
    begin = b"HTTP/1.1 200 OK\r\n" + (b"X: " if where == "head" else b"Content-Length: 100000\r\n\r\n")

    async def drip(_, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with RawServer(drip) as server:
        error = await failed(post(transport, server.url, timeouts=Timeouts(5.0, 20.0, 0.3)))
        assert error.reason == "timeout"
        await server.until(lambda: server.open == 0)


async def test_bytes_that_keep_coming_keep_a_call_alive(transport):
    async def slow(_, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")
        for _ in range(12):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)

    async with RawServer(slow) as server:
        reply = await post(transport, server.url, timeouts=Timeouts(5.0, 0.7, 30.0))
        assert reply.body == b"x" * 12


async def test_a_failure_leaves_the_next_call_alone(transport):
    answers = iter([saying(b"junk\r\n\r\n", close=True), saying(OK)])

    async def answer(reader, writer):
        await next(answers)(reader, writer)

    async with RawServer(answer) as server:
        await failed(post(transport, server.url))
        assert (await post(transport, server.url)).status == 200


@ours
@pytest.mark.parametrize("begin", [b"2\r\n{}\r\n0\r\nX: ", b"2;x="], ids=["a trailer", "an extension"])
async def test_what_is_no_body_and_has_no_end(transport, begin):
    async def pour(_, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + begin)
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    async with RawServer(pour) as server:
        assert (await failed(post(transport, server.url))).reason == "unparsable"
        await server.until(lambda: server.open == 0)


@ours
@pytest.mark.parametrize("coding", [b"identity", b"gzip, chunked", b"chunked, gzip"])
async def test_a_transfer_that_was_not_asked_for(transport, coding):
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    async with RawServer(saying(data)) as server:
        assert (await failed(post(transport, server.url))).reason == "unparsable"


@ours
async def test_an_answer_that_ends_before_the_request_was_heard(transport):
    """At once, and not when the time between bytes is over."""

    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        writer.write_eof()
        await done.wait()
        writer.transport.abort()

    done = asyncio.Event()
    server = await asyncio.start_server(half, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with asyncio.timeout(10):
            assert (await failed(post(transport, url, b"x" * (16 << 20)))).reason == "truncated"
        done.set()


@ours
async def test_no_room_for_the_answer_in_time(transport):
    class Full:
        async def take(self, _: int) -> None:
            await asyncio.Event().wait()

    body = b"x" * 200_000
    async with RawServer(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + body)) as server:
        where = target(server.url, timeouts=Timeouts(5.0, 20.0, 0.4))
        assert (await failed(transport.post(where, b"{}", Full()))).reason == "timeout"
        await server.until(lambda: server.open == 0)
