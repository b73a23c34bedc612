"""What every adapter makes of calls that were not sent, of late answers, and of large ones."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import tracemalloc

import pytest
from acts_kit import (
    ACTS,
    OUTPUT,
    cancel,
    check_no_secret,
    create,
    download,
    failure,
    nothing,
    recent,
    retrieve,
    said,
    upload,
)
from hostile import cut, never, raw, reply, reset, slowly
from provider_kit import SECRET, batch, make_plan, order, provider_of

from batch_inferd.backends.batch import http, openai
from batch_inferd.backends.batch.provider import (
    NotSent,
    Refused,
    Unsettled,
)
from batch_inferd.backends.plan import Timeouts
from batch_inferd.seams import failpoint


@pytest.fixture(autouse=True)
def _script(hostile) -> None:
    hostile.will(reply(400, said("no")))


# what was not sent


async def test_nobody_listens(tmp_path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with provider_of(make_plan(f"http://127.0.0.1:{port}/v1")) as provider:
        for act in ACTS:
            with pytest.raises(NotSent) as caught:
                await act(provider, tmp_path)
            assert (caught.value.reason, caught.value.address) == ("refused", f"127.0.0.1:{port}")


async def test_a_name_that_does_not_exist(tmp_path) -> None:
    async with provider_of(make_plan("http://no-such-host.invalid/v1")) as provider:
        with pytest.raises(NotSent) as caught:
            await create(provider, tmp_path)
    assert caught.value.reason == "dns"


async def test_no_tls_there(hostile, tmp_path) -> None:
    hostile.will(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    hostile.read_first = False
    async with provider_of(make_plan(hostile.base_url.replace("http:", "https:"))) as provider:
        with pytest.raises(NotSent) as caught:
            await create(provider, tmp_path)
    assert caught.value.reason == "tls"


async def test_a_handshake_that_never_ends(hostile, tmp_path) -> None:
    hostile.will(never)
    quick = Timeouts(connect=0.2, read=5.0, total=5.0)
    async with provider_of(
        make_plan(hostile.base_url.replace("http:", "https:"), timeouts=quick)
    ) as provider:
        with pytest.raises(NotSent) as caught:
            await create(provider, tmp_path)
    assert caught.value.reason == "connect_timeout"


async def test_a_proxy_that_wants_a_password(hostile, tmp_path) -> None:
    hostile.will(reply(407, b"who?"))
    plan = make_plan("http://service.invalid/v1", proxy=f"http://me:{SECRET}@127.0.0.1:{hostile.port}")
    async with provider_of(plan) as provider:
        for act in (create, upload, download):
            with pytest.raises(NotSent) as caught:
                await act(provider, tmp_path)
            assert (caught.value.reason, caught.value.address) == ("proxy", f"127.0.0.1:{hostile.port}")
            check_no_secret(caught.value)
    assert hostile.requests[0].target == "http://service.invalid/v1/batches"


async def test_a_proxy_that_makes_no_tunnel(hostile, tmp_path) -> None:
    hostile.will(reply(403, b""))
    plan = make_plan("https://service.invalid/v1", proxy=f"http://127.0.0.1:{hostile.port}")
    async with provider_of(plan) as provider:
        with pytest.raises(NotSent) as caught:
            await create(provider, tmp_path)
    assert caught.value.reason == "proxy"
    assert hostile.requests[0].method == "CONNECT"


async def test_a_tunnel_that_breaks_before_the_request(hostile, tmp_path) -> None:
    hostile.will(reset)
    plan = make_plan("https://service.invalid/v1", proxy=f"http://127.0.0.1:{hostile.port}")
    async with provider_of(plan) as provider:
        with pytest.raises(NotSent):
            await create(provider, tmp_path)


# time


async def test_an_answer_that_never_comes(hostile, tmp_path) -> None:
    quick = Timeouts(connect=5.0, read=0.1, total=1.0)
    for act in ACTS:
        hostile.will(never)
        assert type(await failure(act, hostile, tmp_path, timeouts=quick)) is Unsettled
        assert len(hostile.requests) == 1


async def test_an_answer_in_drops_ends_after_all(hostile, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(http, "CALL_TOTAL_S", 0.2)
    gate = asyncio.Event()
    hostile.will(slowly([b"{", b"}"], gate))
    assert type(await failure(create, hostile, tmp_path)) is Unsettled
    gate.set()


async def test_a_download_may_take_its_time(hostile, monkeypatch) -> None:
    monkeypatch.setattr(http, "CALL_TOTAL_S", 0.01)
    gate = asyncio.Event()
    hostile.will(slowly([b"a" * 10, b"b" * 10], gate))
    got: list[bytes] = []

    def write(data: bytes) -> None:
        got.append(data)
        asyncio.get_running_loop().call_later(0.05, gate.set)

    async with provider_of(make_plan(hostile.base_url)) as provider:
        assert await provider.download(OUTPUT, write, nothing) == 20
    assert b"".join(got) == b"a" * 10 + b"b" * 10


# the failpoints of a create


async def test_a_create_is_told_when_it_was_sent_and_when_it_was_answered(
    hostile, tmp_path, monkeypatch
) -> None:
    met: list[tuple[str, int]] = []
    answered: list[int] = []

    async def answer(request, writer) -> None:
        answered.append(1)
        await reply(200, batch())(request, writer)

    monkeypatch.setattr(openai, "failpoint", lambda name: met.append((name, len(answered))))
    hostile.will(answer)
    async with provider_of(make_plan(hostile.base_url)) as provider:
        await provider.create(order())
        await provider.retrieve("batch_1")
        assert met == [("batch.create_sent", 0), ("batch.create_answered", 1)]
        met.clear()
        await provider.cancel("batch_1")
        assert met == [("batch.cancel_sent", 3)]


@pytest.mark.parametrize("name", ["batch.create_sent", "batch.create_answered"])
async def test_whatever_happens_after_sending_is_unsettled(name, hostile, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(failpoint, "_plan", {name: ("raise:5", 0)})
    hostile.will(reply(200, batch()))
    assert type(await failure(create, hostile, tmp_path)) is Unsettled


# size


async def test_compressed_answers(hostile) -> None:
    packed = gzip.compress(json.dumps(batch()).encode())
    hostile.will(reply(200, packed, headers={"Content-Encoding": "gzip"}))
    async with provider_of(make_plan(hostile.base_url)) as provider:
        assert (await provider.retrieve("batch_1")).id == "batch_1"
    assert hostile.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(200, gzip.compress(b"x" * 9000)[:-9], headers={"Content-Encoding": "gzip"}), Unsettled),
        (reply(200, b"xxxx", headers={"Content-Encoding": "gzip"}), Unsettled),
        (reply(200, b"xxxx", headers={"Content-Encoding": "br"}), Unsettled),
        (cut(b"x" * 10, of=20), Unsettled),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxxxxx\r\n"), Unsettled),
    ],
)
async def test_a_download_that_is_not_whole(answer, expected, hostile, tmp_path) -> None:
    hostile.will(answer)
    assert type(await failure(download, hostile, tmp_path)) is expected
    assert len(hostile.requests) == 1


async def test_a_download_without_a_length_is_compared_with_what_the_service_says(hostile) -> None:
    for told, whole in ((4, True), (3, True), (5, False), (None, True)):
        hostile.will(reply(200, b"xxxx", framed=False), reply(200, {"id": "file-o", "bytes": told}))
        async with provider_of(make_plan(hostile.base_url)) as provider:
            if whole:
                assert await provider.download(OUTPUT, nothing, nothing) == 4
            else:
                with pytest.raises(Unsettled):
                    await provider.download(OUTPUT, nothing, nothing)
        assert [r.path for r in hostile.requests] == ["/v1/files/file-o/content", "/v1/files/file-o"]


async def test_a_download_has_a_bound_whatever_it_unpacks_to(hostile) -> None:
    hostile.will(reply(200, gzip.compress(b"\0" * 300_000_000), headers={"Content-Encoding": "gzip"}))
    got = 0

    def write(data: bytes) -> None:
        nonlocal got
        got += len(data)

    async with provider_of(make_plan(hostile.base_url)) as provider:
        tracemalloc.start()
        with pytest.raises(Refused) as caught:
            await provider.download(OUTPUT, write, nothing, max_bytes=10_000_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert caught.value.code == "response_too_large"
    assert got <= 10_000_000
    assert peak < 3_000_000


async def test_a_disk_that_is_full_is_not_the_services_fault(hostile) -> None:
    hostile.will(reply(200, b"x" * 100_000))

    def write(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    async with provider_of(make_plan(hostile.base_url)) as provider:
        with pytest.raises(OSError, match="No space left"):
            await provider.download(OUTPUT, write, nothing)


async def test_an_answer_beyond_all_measure_is_not_read(hostile, tmp_path) -> None:
    hostile.keep_bodies = False
    huge = b'{"id":"batch_1","x":"' + b"y" * (http.MAX_REPLY + 10) + b'"}'
    for act in (retrieve, create, cancel):
        hostile.will(reply(200, huge))
        error = await failure(act, hostile, tmp_path)
        assert type(error) is Unsettled
        assert "larger than" in str(error)


async def test_pages_that_are_too_large_are_asked_for_in_parts(hostile, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLY", 2000)
    large = reply(200, {"data": [batch(id=f"batch_{n}") for n in range(100)], "has_more": True})
    small = reply(200, {"data": [batch()], "has_more": False})
    hostile.will(large, large, small)
    async with provider_of(make_plan(hostile.base_url)) as provider:
        assert [status.id async for status in provider.recent(0.0)] == ["batch_1"]
    assert [r.query["limit"] for r in hostile.requests] == ["100", "10", "1"]
    hostile.will(large)
    assert type(await failure(recent, hostile, tmp_path)) is Unsettled
