"""What every adapter makes of a network and a service at their worst. Nothing is sent twice, nothing told."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hostile import cut, hang_up, never, raw, reply, reset, slowly
from provider_kit import FAMILY, SECRET, batch, make_plan, order, provider_of

from batch_inferd.backends.batch import http, openai
from batch_inferd.backends.batch.provider import (
    Blocked,
    Capacity,
    NotFound,
    NotSent,
    ProviderError,
    Refused,
    ResultRef,
    Throttled,
    Unsettled,
    Upload,
    error_to_wire,
)
from batch_inferd.backends.batch.verdicts import NO_BATCH_API
from batch_inferd.backends.plan import Timeouts
from batch_inferd.seams import failpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from hostile import Hostile

    from batch_inferd.backends.batch.provider import BatchProvider

    Act = Callable[[BatchProvider, Path], Awaitable[object]]

OUTPUT = ResultRef("output", "file-o")


def nothing(*_: object) -> None:
    return


async def upload(provider: BatchProvider, folder: Path) -> object:
    path = folder / "in.jsonl"
    path.write_bytes(b"{}\n" * 1000)
    return await provider.upload(Upload(path, "bi-token-1.jsonl", path.stat().st_size), nothing)


async def find(provider: BatchProvider, folder: Path) -> object:
    return await provider.find_upload(Upload(folder / "in.jsonl", "bi-token-1.jsonl", 3000))


async def create(provider: BatchProvider, _: Path) -> object:
    return await provider.create(order())


async def retrieve(provider: BatchProvider, _: Path) -> object:
    return await provider.retrieve("batch_1")


async def recent(provider: BatchProvider, _: Path) -> object:
    return [status async for status in provider.recent(0.0)]


async def cancel(provider: BatchProvider, _: Path) -> object:
    return await provider.cancel("batch_1")


async def download(provider: BatchProvider, _: Path) -> object:
    return await provider.download(OUTPUT, nothing, nothing)


async def delete(provider: BatchProvider, _: Path) -> object:
    await provider.delete_upload("file-1")
    return None


async def models(provider: BatchProvider, _: Path) -> object:
    return await provider.models()


async def ping(provider: BatchProvider, _: Path) -> object:
    await provider.ping_batches()
    return None


ACTS: list[Act] = [upload, find, create, retrieve, recent, cancel, download, delete, models, ping]
ONE_OBJECT: list[Act] = [retrieve, cancel, download]


def said(message: str, code: object = None, kind: str = "") -> dict[str, Any]:
    return {"error": {"message": f"{message} (key {SECRET})", "code": code, "type": kind}}


def check_no_secret(error: BaseException) -> None:
    assert isinstance(error, ProviderError | NotSent)
    told = [str(error), repr(error), json.dumps(error_to_wire(error))]
    assert not [text for text in told if SECRET in text]


async def failure(act: Act, server: Hostile, folder: Path, **plan: Any) -> ProviderError | NotSent:
    async with provider_of(make_plan(server.base_url, **plan)) as provider:
        with pytest.raises((ProviderError, NotSent)) as caught:
            await act(provider, folder)
    error = caught.value
    check_no_secret(error)
    assert isinstance(error, ProviderError | NotSent)
    return error


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("how", [hang_up, raw(b"\x16\x03garbage\r\n\r\n"), cut(b"{", of=9)])
async def test_a_broken_connection_settles_nothing(act, how, hostile, tmp_path) -> None:
    hostile.will(how)
    assert type(await failure(act, hostile, tmp_path)) is Unsettled
    assert len(hostile.requests) == 1


@pytest.mark.parametrize("profile", FAMILY, ids=lambda p: p.name)
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_a_reset_settles_nothing(profile, act, hostile, tmp_path) -> None:
    if act is models and profile.batch.models_path is None:
        return
    hostile.will(reset)
    assert type(await failure(act, hostile, tmp_path, profile=profile)) is Unsettled
    assert len(hostile.requests) == 1


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(500, said("boom")), Unsettled),
        (reply(502, b"<html>bad gateway</html>"), Unsettled),
        (reply(503, said("busy")), Unsettled),
        (reply(429, said("slow down", "rate_limit_exceeded"), headers={"retry-after-ms": "1500"}), Throttled),
        (reply(429, said("spent", "insufficient_quota")), Blocked),
        (reply(402, said("pay")), Blocked),
        (reply(401, said("who?", "invalid_api_key")), Blocked),
        (reply(403, said("no")), Blocked),
        (reply(404, said("no such model", "model_not_found")), Blocked),
        (reply(400, said("no", "bad_thing", "invalid_request_error")), Refused),
        (reply(422, {"detail": [{"msg": f"field {SECRET}"}]}), Refused),
        (reply(413, b"too large"), Refused),
        (reply(407, b""), Refused),
    ],
)
async def test_refusals(act, answer, expected, hostile, tmp_path) -> None:
    looks = act is cancel and expected is Refused
    hostile.will(answer, *([reply(200, batch(status="in_progress"))] if looks else []))
    error = await failure(act, hostile, tmp_path)
    assert type(error) is expected
    assert len(hostile.requests) == (2 if looks else 1)
    if isinstance(error, Throttled):
        assert error.retry_after == 1.5


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_busy_is_waited_for_but_no_5xx_says_that_nothing_was_created(act, hostile, tmp_path) -> None:
    hostile.will(reply(503, said("busy"), headers={"Retry-After": "7"}))
    error = await failure(act, hostile, tmp_path)
    assert type(error) is (Unsettled if act is create else Throttled)


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_what_blocks_says_whom(act, hostile, tmp_path) -> None:
    for answer, cls in [
        (reply(401, said("x")), "auth"),
        (reply(429, said("x", "insufficient_quota")), "credit"),
        (reply(429, said("x"), headers={"Retry-After": "90000"}), "credit"),
        (reply(400, said("x", "model_not_found")), "model"),
    ]:
        hostile.will(answer)
        error = await failure(act, hostile, tmp_path)
        assert isinstance(error, Blocked)
        assert error.cls == cls


async def test_a_code_is_told(hostile, tmp_path) -> None:
    problems = {"data": [{"code": "bad_line", "message": f"line {SECRET}", "line": 4}]}
    hostile.will(reply(400, {"error": {"message": "no", "code": "bad_thing", "errors": problems}}))
    error = await failure(create, hostile, tmp_path)
    assert isinstance(error, Refused)
    assert (error.code, error.status, str(error)) == (
        "bad_thing",
        400,
        "the batch cannot be created: HTTP 400: no",
    )
    assert [(p.line, p.message) for p in error.problems] == [(4, "line ***")]


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"<html>hello</html>"),
        reply(200, b""),
        reply(200, b"{"),
        reply(200, {}),
        reply(200, []),
        reply(200, {"usage": {"prompt_tokens": 3}}),
        reply(200, {"id": "batch_1"}),
        reply(201, b"null"),
        reply(408, said("timeout")),
        reply(409, said("conflict")),
        reply(500, batch()),
    ],
)
async def test_a_create_without_a_readable_answer_is_unsettled(answer, hostile, tmp_path) -> None:
    hostile.will(answer)
    error = await failure(create, hostile, tmp_path)
    assert type(error) is Unsettled
    assert len(hostile.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        reply(
            400,
            said(
                "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment"
            ),
        ),
        reply(400, said("no", "token_limit_exceeded")),
        reply(
            429, said("Enqueued token limit reached for gpt-4o-mini in organization org-1. Limit: 2,000,000")
        ),
        reply(429, said("owner has 10 batches", "batch_limit_exceeded"), headers={"Retry-After": "60"}),
        reply(400, said("too many active batches")),
        reply(400, said("当前排队任务已达上限")),
    ],
)
async def test_a_full_queue_is_no_error(answer, hostile, tmp_path) -> None:
    hostile.will(answer)
    error = await failure(create, hostile, tmp_path)
    assert type(error) is Capacity
    hostile.will(answer)
    assert not isinstance(await failure(retrieve, hostile, tmp_path), Capacity)


async def test_codes_of_a_full_queue_are_data(hostile, tmp_path) -> None:
    hostile.will(reply(400, said("no", "1305")))
    assert type(await failure(create, hostile, tmp_path)) is Refused
    assert type(await failure(create, hostile, tmp_path, api={"wait_codes": ("1305",)})) is Capacity


async def test_limits_of_one_file_are_no_full_queue(hostile, tmp_path) -> None:
    hostile.will(reply(400, said("exceeds the maximum number of requests per batch file", "too_many_tasks")))
    assert type(await failure(create, hostile, tmp_path)) is Refused


@pytest.mark.parametrize("act", [upload, create, recent, ping], ids=lambda act: act.__name__)
@pytest.mark.parametrize(
    "answer",
    [
        reply(404, b"<html><h1>404 File not found</h1></html>"),
        reply(404, b"404 page not found"),
        reply(404, {"detail": "Not Found"}),
        reply(405, {"detail": "Method Not Allowed"}),
        reply(501, said("not implemented")),
        reply(404, b""),
    ],
)
async def test_a_service_without_a_batch_api(act, answer, hostile, tmp_path) -> None:
    hostile.will(answer)
    error = await failure(act, hostile, tmp_path)
    assert isinstance(error, Refused)
    assert error.code == NO_BATCH_API
    assert "does not seem to have a Batch API" in str(error)
    assert "backend: online" in str(error)


async def test_a_service_may_have_no_list_of_files(hostile, tmp_path) -> None:
    hostile.will(reply(405, b""))
    async with provider_of(make_plan(hostile.base_url)) as provider:
        assert await find(provider, tmp_path) is None


@pytest.mark.parametrize(
    "message",
    [
        "Out of space, <839> B of <1024> B storage space has been used.",
        "Exceeded the maximum of 500 batch files per resource",
        "Your organization has exceeded its storage quota",
    ],
)
async def test_a_full_file_store_is_no_fault_of_the_file(message, hostile, tmp_path) -> None:
    hostile.will(reply(400, said(message)))
    error = await failure(upload, hostile, tmp_path)
    assert isinstance(error, Blocked)
    assert error.cls == "credit"
    for other in ("Maximum file size is 200 MB", "the file exceeds the limit of 50,000 requests"):
        hostile.will(reply(400, said(other)))
        assert type(await failure(upload, hostile, tmp_path)) is Refused


async def test_a_missing_input_file_is_not_a_missing_batch_api(hostile, tmp_path) -> None:
    hostile.will(reply(404, said("No such File object: file-1")))
    error = await failure(create, hostile, tmp_path)
    assert isinstance(error, Refused)
    assert (error.status, error.code) == (404, "")
    assert "file-1" in str(error)


@pytest.mark.parametrize("act", ONE_OBJECT, ids=lambda act: act.__name__)
@pytest.mark.parametrize("status", [404, 410])
async def test_objects_that_are_gone(act, status, hostile, tmp_path) -> None:
    for body in (said("No such batch"), b"<html>"):
        hostile.will(reply(status, body))
        assert type(await failure(act, hostile, tmp_path)) is NotFound


async def test_deleting_what_is_gone_is_fine(hostile) -> None:
    hostile.will(reply(404, said("No such file")))
    async with provider_of(make_plan(hostile.base_url)) as provider:
        await provider.delete_upload("file-1")
    assert (hostile.requests[0].method, hostile.requests[0].path) == ("DELETE", "/v1/files/file-1")


@pytest.mark.parametrize("act", [a for a in ACTS if a is not download], ids=lambda act: act.__name__)
async def test_redirects_are_not_followed(act, hostile, tmp_path) -> None:
    hostile.will(
        reply(307, b"", headers={"Location": f"http://127.0.0.1:1/{SECRET}"}),
        reply(200, batch(status="running")),
    )
    error = await failure(act, hostile, tmp_path)
    assert isinstance(error, Refused)
    assert error.code == "redirected"


async def test_the_processing_of_an_upload_may_not_be_over(hostile, tmp_path) -> None:
    hostile.will(reply(400, said("The file file-1 has not been processed yet")))
    assert type(await failure(create, hostile, tmp_path)) is Throttled


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


@pytest.fixture(autouse=True)
def _script(hostile) -> None:
    hostile.will(reply(400, said("no")))


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
