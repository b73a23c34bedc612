"""What a call is, whoever makes it: one POST, one answer, nothing done by itself."""

from __future__ import annotations

import asyncio

import pytest
from transport_kit import OK, RawServer, client, free_port, post, response, saying, target, transport

__all__ = ["client", "transport"]


async def test_a_reply_comes_whole_and_the_request_went_as_given(transport):
    async with RawServer(saying(response(b'{"ok": 1}', "X-Request-Id: r1", status="201 Made"))) as server:
        reply = await post(transport, f"{server.url}/chat?api-version=2024-10-21&x=%26")
        assert (reply.status, reply.body, reply.headers["x-request-id"]) == (201, b'{"ok": 1}', "r1")
        head = server.requests[0]
        assert head.startswith(b"POST /v1/chat?api-version=2024-10-21&x=%26 HTTP/1.1\r\n")
        assert server.bodies == [b'{"a":1}']
        lines = head.decode().split("\r\n")
        assert "Authorization: Bearer x" in lines
        assert "X-Own: 1" in lines
        assert "Content-Length: 7" in lines
        assert f"Host: 127.0.0.1:{server.port}" in lines
        assert any(line.startswith("User-Agent: batch_infer/") for line in lines)


async def test_a_plans_own_user_agent_counts(transport):
    async with RawServer(saying(OK)) as server:
        await post(
            transport, server.url, headers={"User-Agent": "mine/1", "content-type": "application/json"}
        )
        head = server.requests[0].lower()
        assert head.count(b"user-agent:") == head.count(b"content-type:") == 1
        assert b"user-agent: mine/1" in head


@pytest.mark.parametrize("size", [0, 1 << 20, 3 << 20])
async def test_a_body_of_any_size_arrives_whole(transport, size):
    async with RawServer(saying(OK)) as server:
        await post(transport, server.url, body=b"x" * size)
        assert [len(body) for body in server.bodies] == [size]


async def test_a_large_answer_comes_whole(transport):
    body = bytes(range(256)) * 20_000
    async with RawServer(saying(response(body))) as server:
        assert (await post(transport, server.url, max_bytes=len(body))).body == body


async def test_connections_are_kept(transport):
    async with RawServer(saying(OK)) as server:
        where = target(server.url)
        for _ in range(5):
            await transport.post(where, b"{}")
        assert (len(server.requests), server.connections) == (5, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed_and_cookies_not_kept(transport, status):
    answer = response(b"", "Location: /elsewhere", "Set-Cookie: a=b", status=f"{status} Moved")
    async with RawServer(saying(answer)) as server:
        assert (await post(transport, server.url)).status == status
        await post(transport, server.url)
        assert len(server.requests) == 2
        assert b"cookie" not in server.requests[1].lower()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_the_environments_proxy_does_not_count(transport, monkeypatch, name):
    monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    async with RawServer(saying(OK)) as server:
        assert (await post(transport, server.url)).status == 200


async def test_provisional_answers_are_passed_over(transport):
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with RawServer(saying(early + OK)) as server:
        reply = await post(transport, server.url)
        assert (reply.status, reply.body) == (200, b"{}")
        assert (await post(transport, server.url)).status == 200


@pytest.mark.parametrize(
    "head", ["204 No Content\r\n", "304 Not Modified\r\nContent-Length: 50\r\n"], ids=["204", "304"]
)
async def test_an_answer_that_has_no_body(transport, head):
    async with RawServer(saying(f"HTTP/1.1 {head}\r\n".encode())) as server:
        for _ in range(2):  # the connection is in order afterwards
            reply = await post(transport, server.url)
            assert (reply.status, reply.body) == (int(head[:3]), b"")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nT: 1\r\n\r\n",
    ],
    ids=["http/1.0", "to the end of the connection", "chunked"],
)
async def test_the_length_of_an_answer_in_every_way(transport, data):
    async with RawServer(saying(data, close=b"chunked" not in data)) as server:
        for _ in range(2):
            reply = await post(transport, server.url)
            assert (reply.status, reply.body) == (200, b"{}")


async def test_headers_are_found_by_their_lower_case_names(transport):
    data = response(b"{}", "Retry-After: 7", "X-RateLimit-Limit: 9", "X-Twice: a", "X-Twice: b")
    async with RawServer(saying(data)) as server:
        headers = (await post(transport, server.url)).headers
        assert (headers.get("retry-after"), headers["x-ratelimit-limit"]) == ("7", "9")
        assert headers.get("x-absent") is None
        assert headers.get("x-absent", "z") == "z"
        assert headers["x-twice"] in {"a", "b"}
        assert "x-absent" not in headers
        with pytest.raises(KeyError):
            headers["x-absent"]
        assert sorted(headers) == ["content-length", "retry-after", "x-ratelimit-limit", "x-twice"]
        assert len(headers) == 4


async def test_a_header_that_is_no_text_does_no_harm(transport):
    data = b"HTTP/1.1 200 OK\r\nRetry-After: \xff\xfe\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\n{}"
    async with RawServer(saying(data)) as server:
        reply = await post(transport, server.url)
        assert (reply.body, reply.headers.get("x-own")) == (b"{}", "1")
        assert not (reply.headers.get("retry-after") or "").isdigit()
        assert "retry-after" not in reply.headers or reply.headers["retry-after"]


async def test_a_name_goes_to_its_address(transport):
    async with RawServer(saying(OK)) as server:
        assert (await post(transport, f"http://localhost:{server.port}/v1")).status == 200


async def test_a_probe_connects_and_hangs_up(transport):
    async with RawServer(saying(b"")) as server:
        await transport.probe(server.url, None, 5.0)
        await server.until(lambda: server.connections == 1 and server.open == 0)
        assert server.requests == []


async def test_many_calls_at_once_do_not_mix(transport):
    async def echo(_, writer: asyncio.StreamWriter) -> None:
        writer.write(response(server.bodies[-1]))

    async with RawServer(echo) as server:
        replies = await asyncio.gather(*(post(transport, server.url, str(i).encode()) for i in range(200)))
        assert [int(reply.body) for reply in replies] == list(range(200))
