"""Answers of every size and coding: bounded while they come in, and never inflated beyond the bound."""

from __future__ import annotations

import asyncio
import gzip
import re
import subprocess
import sys
import zlib

import brotli
import pytest
import zstandard
from transport_kit import (
    ROOT,
    RawServer,
    client,
    failed,
    hanging,
    ours,
    post,
    response,
    saying,
    target,
    transport,
)

from batch_inferd.backends.plan import Timeouts

__all__ = ["client", "transport"]

CODINGS = {
    "gzip": lambda data: gzip.compress(data, 6),
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": lambda data: zstandard.compress(data, 3),
}
TEXT = b'{"answer": "ordinary text, ordinary text"}' * 500
HEAD = b"HTTP/1.1 200 OK\r\n"


def chunked(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", *headers, "Transfer-Encoding: chunked"]).encode()
    parts = [body[at : at + 999] for at in range(0, len(body), 999)]
    return head + b"\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


async def test_what_is_offered_is_understood(transport):
    async with RawServer(saying(response(b"{}"))) as server:
        await post(transport, server.url)
        found = re.search(rb"(?im)^accept-encoding: *(.*?)\r$", server.requests[0])
        assert found is not None
        offered = set(re.split(r"[, ]+", found[1].decode()))
        assert offered >= {"gzip", "deflate", "br"}
        assert offered <= set(CODINGS)


@pytest.mark.parametrize("frame", [response, chunked])
@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_answer(transport, client, coding, frame):
    if coding == "zstd" and (client == "http1" or sys.version_info < (3, 14)):
        pytest.skip("it does not offer zstd here")
    packed = CODINGS[coding](TEXT)
    async with RawServer(saying(frame(packed, f"Content-Encoding: {coding}"))) as server:
        for _ in range(2):
            assert (await post(transport, server.url)).body == TEXT
        assert server.connections <= 2


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_answer_that_is_cut(transport, client, coding):
    if client == "aiohttp":
        pytest.skip("what it has of an answer with a whole length and half a body counts for it")
    if client == "http1" and coding == "zstd":
        pytest.skip("it does not offer zstd here")
    packed = CODINGS[coding](bytes(range(256)) * 900)
    half = response(packed[: len(packed) // 2], f"Content-Encoding: {coding}")
    async with RawServer(saying(half)) as server:
        assert (await failed(post(transport, server.url))).reason == "truncated"


@pytest.mark.parametrize("length", [True, False])
async def test_an_answer_over_the_cap(transport, length):
    head = HEAD + (b"Content-Length: 5000\r\nConnection: close\r\n" if length else b"Connection: close\r\n")
    async with RawServer(saying(head + b"\r\n" + b"x" * 5000, close=True)) as server:
        error = await failed(post(transport, server.url, max_bytes=4999))
        assert error.reason == "response_too_large"
        assert len((await post(transport, server.url, max_bytes=5000)).body) == 5000


@pytest.mark.parametrize(
    "head", [b"Content-Length: 4000000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nEE6B2800\r\n"]
)
async def test_a_size_that_is_only_claimed(transport, head):
    async with RawServer(hanging(HEAD + head + b"x" * 100_000)) as server:
        error = await failed(post(transport, server.url, max_bytes=4999))
        assert error.reason == "response_too_large"
        await server.until(lambda: server.open == 0)  # nobody waits for the rest


async def test_an_answer_without_end(transport):
    async def pour(_, writer) -> None:
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"fffe\r\n" + b"x" * 0xFFFE + b"\r\n")
            await writer.drain()

    async with RawServer(pour) as server:
        error = await failed(post(transport, server.url, max_bytes=1_000_000))
        assert error.reason == "response_too_large"
        await server.until(lambda: server.open == 0)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_the_cap_counts_what_comes_out(transport, coding):
    packed = CODINGS[coding](b"0" * 3_000_000)
    async with RawServer(saying(response(packed, f"Content-Encoding: {coding}"))) as server:
        error = await failed(post(transport, server.url, max_bytes=2_999_999))
        assert error.reason == "response_too_large"
        assert (await post(transport, server.url, max_bytes=3_000_000)).body == b"0" * 3_000_000


_BOMB = """
import asyncio, resource, sys
sys.path[:0] = {path!r}
from transport_kit import CLIENTS, failed, post

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def main():
    transport = CLIENTS[{client!r}]()
    await post(transport, {url!r} + "?small")
    before = peak()
    error = await failed(post(transport, {url!r} + "?bomb", max_bytes=1 << 20))
    print(error.reason, peak() - before)

asyncio.run(main())
sys.stdout.flush()
import os; os._exit(0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the resource module")
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_a_bomb_is_not_inflated(client, coding):
    if coding == "zstd" and (client == "http1" or sys.version_info < (3, 14)):
        pytest.skip("it does not offer zstd here")
    bomb = CODINGS[coding](bytes(300_000_000))

    async def answer(_, writer) -> None:
        small = b"?small" in server.requests[-1]
        packed = CODINGS[coding](TEXT) if small else bomb
        writer.write(response(packed, f"Content-Encoding: {coding}"))
        await writer.drain()

    async with RawServer(answer) as server:
        path = [str(ROOT / "tests" / "contract")]
        script = _BOMB.format(path=path, client=client, url=server.url)
        reason, grown_mb = await run(script)
    assert reason == "response_too_large"
    assert int(grown_mb) < 40


async def run(script: str) -> list[str]:

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().split()


@ours
@pytest.mark.parametrize("coding", ["zstd", "gzip, br", "compress"])
async def test_a_coding_that_was_not_offered(transport, coding):
    async with RawServer(saying(response(b"{}", f"Content-Encoding: {coding}"))) as server:
        error = await failed(post(transport, server.url))
        assert (error.reason, coding in error.detail) == ("unparsable", True)


@ours
async def test_a_large_answer_waits_for_its_room(transport):
    """Meanwhile it is not read: the server cannot go on, and no time between bytes runs."""
    free, asking, asked = asyncio.Event(), asyncio.Event(), []

    class Narrow:
        async def take(self, size: int) -> None:
            asked.append(size)
            asking.set()
            await free.wait()

    sent = asyncio.Event()

    async def answer(_, writer) -> None:
        writer.write(response(b"x" * 30_000_000))
        await writer.drain()
        sent.set()

    async with RawServer(answer) as server:
        where = target(server.url, max_bytes=1 << 26, timeouts=Timeouts(5.0, 0.4, 60.0))
        call = asyncio.create_task(transport.post(where, b"{}", Narrow()))
        await asyncio.wait_for(asking.wait(), 10)
        await asyncio.sleep(1.0)
        assert not sent.is_set()
        assert not call.done()
        free.set()
        assert len((await call).body) == 30_000_000
        assert asked[0] == 30_000_000
