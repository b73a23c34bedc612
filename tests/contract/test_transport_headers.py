"""Headers that contradict each other, values that are no text: an answer is read rightly, or not at all."""

from __future__ import annotations

import pytest
from transport_kit import RawServer, client, failed, ours, post, response, saying, transport

from batch_inferd.worker.seen import Seen

__all__ = ["client", "transport"]

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("lengths", [(b"2", b"3"), (b"3", b"2"), (b"2, 3",), (b"+2",), (b"0x2",), (b"2 2",)])
async def test_lengths_that_are_none(transport, lengths):
    fields = b"".join(b"Content-Length: %b\r\n" % length for length in lengths)
    async with RawServer(saying(OK + fields + b"\r\n{}", close=True)) as server:
        assert (await failed(post(transport, server.url))).reason == "unparsable"
        assert len(server.requests) == 1


@pytest.mark.parametrize("length", [b"0", b"1", b"2", b"99", b"4000000000"])
async def test_a_length_together_with_chunked(transport, client, length):
    async with RawServer(saying(OK + b"Content-Length: " + length + b"\r\n" + CHUNKED, close=True)) as server:
        call = post(transport, server.url, max_bytes=1000)
        if client == "aiohttp":
            assert (await failed(call)).reason == "unparsable"  # it refuses both together, as it may
        else:
            assert (await call).body == b"{}"


@ours
@pytest.mark.parametrize("value", [b"\xff\xfe", b"caf\xe9", b"\x80"])
async def test_a_value_that_is_no_text_costs_nothing(transport, value):
    odd = b"X-Ratelimit-Odd: " + value + b"\r\nRetry-After: " + value + b"\r\n"
    told = b"X-RateLimit-Limit-Requests: 9\r\n"
    async with RawServer(saying(OK + odd + told + response(b"{}")[len(OK) :])) as server:
        reply = await post(transport, server.url)
        assert reply.body == b"{}"
        assert reply.headers.get("retry-after") is None
        seen = Seen()
        seen.take_quota(reply.headers)
        assert seen.quota == {"x-ratelimit-limit-requests": "9"}


@ours
async def test_a_length_that_is_no_text(transport):
    async with RawServer(saying(OK + b"Content-Length: \xff\r\n\r\n{}", close=True)) as server:
        assert (await failed(post(transport, server.url))).reason == "unparsable"
