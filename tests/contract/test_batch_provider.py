"""What every adapter does when all is well: from packed lines to results, by profile."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hostile import never, reply
from provider_kit import (
    BY_NAME,
    FAMILY,
    SECRET,
    TOKEN,
    batch,
    body,
    make_plan,
    order,
    pack,
    provider_of,
)

from batch_inferd.backends.batch.provider import (
    BatchState,
    NotFound,
    Refused,
    ResultRef,
    Throttled,
    Unsettled,
    Upload,
)
from batch_inferd.backends.batch.registry import make_provider
from batch_inferd.seams.clock import SystemClock

OUTPUT = ResultRef("output", "file-o")
NOW = 1_790_000_000


def nothing(*_: object) -> None:
    return


class QuickClock(SystemClock):
    """Sleeps at once, and remembers how long it should have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(params=FAMILY, ids=lambda p: p.name)
def profile(request) -> Any:
    return request.param


# the profiles' own words


def test_the_family() -> None:
    assert set(BY_NAME) == {
        "test", "openai", "azure", "dashscope", "bigmodel", "groq", "together", "openai-compatible",
    }  # fmt: skip


def test_a_profile_is_consistent(profile) -> None:
    api = profile.batch
    assert set(api.urls) <= set(profile.paths)
    assert set(api.max_requests_of) <= set(api.urls)
    assert 0 < api.max_line_bytes <= api.max_bytes
    assert api.poll_min_s <= api.poll_first_s <= api.poll_max_s
    assert api.windows
    assert (profile.backends == ("online", "batch")) == (profile.name != "openai-compatible")


UPLOADS = {
    "together": (
        "/v1/files/upload",
        {"purpose": "batch-api", "file_name": f"{TOKEN}.jsonl", "file_type": "jsonl"},
    ),
}
LINE_URLS = {"azure": "/chat/completions", "bigmodel": "/v4/chat/completions"}


def read_form(content_type: str, data: bytes) -> dict[str, tuple[dict[str, str], bytes]]:
    boundary = content_type.partition("boundary=")[2].encode()
    parts = data.split(b"--" + boundary)
    assert (parts[0], parts[-1]) == (b"", b"--\r\n")
    form = {}
    for part in parts[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = dict(f.strip().replace('"', "").split("=") for f in lines[0].split(";")[1:])
        if len(lines) > 1:
            fields["type"] = lines[1].partition(": ")[2]
        form[fields["name"]] = (fields, value)
    return form


async def test_an_upload(profile, hostile, tmp_path) -> None:
    hostile.will(reply(200, {"id": "file-1", "status": "processed"}))
    api = profile.batch
    told: list[int] = []
    async with provider_of(make_plan(hostile.base_url, profile)) as provider:
        file = pack(provider, tmp_path / "p.jsonl", ["a", "你好"], api.urls["chat"], TOKEN)
        assert await provider.upload(file, told.append) == "file-1"
    (request,) = hostile.requests
    path, fields = UPLOADS.get(profile.name, ("/v1/files", {"purpose": "batch"}))
    assert (request.method, request.path) == ("POST", path)
    form = read_form(request.headers["content-type"], request.body)
    assert {name: value.decode() for name, (_, value) in form.items() if name != "file"} == fields
    head, content = form["file"]
    assert (head["filename"], head["type"]) == (f"{TOKEN}.jsonl", "application/octet-stream")
    assert content == file.path.read_bytes()
    assert told == [file.size]
    lines = [json.loads(line) for line in content.splitlines()]
    if profile.name == "together":
        assert [set(line) for line in lines] == [{"custom_id", "body"}] * 2
    else:
        url = LINE_URLS.get(profile.name, "/v1/chat/completions")
        assert [(line["method"], line["url"]) for line in lines] == [("POST", url)] * 2
    assert [line["body"] for line in lines] == [json.loads(body("a")), json.loads(body("你好"))]


async def test_a_create(profile, hostile) -> None:
    hostile.will(reply(200, {"job": batch()} if profile.name == "together" else batch()))
    api = profile.batch
    async with provider_of(make_plan(hostile.base_url, profile)) as provider:
        status = await provider.create(order(url=api.urls["chat"], window=api.windows[-1], title="t" * 600))
    assert (status.id, status.state, status.input_ref) == ("batch_1", BatchState.VALIDATING, "file-1")
    (request,) = hostile.requests
    assert (request.method, request.path) == ("POST", "/v1/batches")
    assert request.headers["content-type"] == "application/json"
    sent = request.json
    assert (sent["input_file_id"], sent["endpoint"]) == ("file-1", api.urls["chat"])
    assert sent["completion_window"] == api.windows[-1]
    if api.metadata:
        assert sent["metadata"]["batch_infer_token"] == TOKEN
        assert len(sent["metadata"][api.title_key]) == 100
    else:
        assert "metadata" not in sent
    assert sent.get("auto_delete_input_file") is (False if profile.name == "bigmodel" else None)


async def test_every_call_has_the_credential_and_the_query(profile, hostile, tmp_path) -> None:
    hostile.will(reply(200, {"data": [], **batch()}))
    plan = make_plan(hostile.base_url, profile, query={"api-version": "2026-01-01"})
    async with provider_of(plan) as provider:
        await provider.create(order())
        await provider.retrieve("batch_1")
        await provider.cancel("batch_1")
        assert [status async for status in provider.recent(0.0)] == []
        await provider.download(OUTPUT, nothing, nothing)
        await provider.delete_upload("file-1")
        await provider.ping_batches()
        file = pack(provider, tmp_path / "p.jsonl", ["a"], "/u", TOKEN)
        assert await provider.find_upload(file) is None
        await provider.upload(file, nothing)
        listed = await provider.models()
    assert (listed is None) == (profile.name == "azure")
    name = "api-key" if profile.auth == "api-key" else "authorization"
    for request in hostile.requests:
        assert request.headers[name].endswith(SECRET)
        assert request.query["api-version"] == "2026-01-01"
        assert request.headers["user-agent"].startswith("batch_infer/")
    assert [(r.method, r.path) for r in hostile.requests[:6]] == [
        ("POST", "/v1/batches"),
        ("GET", "/v1/batches/batch_1"),
        ("POST", "/v1/batches/batch_1/cancel"),
        ("GET", "/v1/batches"),
        ("GET", "/v1/files/file-o/content"),
        ("DELETE", "/v1/files/file-1"),
    ]


async def test_azures_deployment_is_no_part_of_these_urls(hostile) -> None:
    hostile.will(reply(200, batch()))
    async with provider_of(make_plan(f"{hostile.base_url}/deployments/gpt", BY_NAME["azure"])) as provider:
        await provider.retrieve("batch_1")
    assert hostile.requests[0].path == "/v1/batches/batch_1"


async def test_ids_are_quoted(hostile) -> None:
    hostile.will(reply(200, batch()))
    async with provider_of(make_plan(hostile.base_url)) as provider:
        await provider.retrieve("a/b?c=d#é")
        with pytest.raises(NotFound):
            await provider.retrieve("..")
    assert [r.target for r in hostile.requests] == ["/v1/batches/a%2Fb%3Fc%3Dd%23%C3%A9"]


# uploads


async def test_a_large_file_is_streamed(hostile, tmp_path) -> None:
    hostile.keep_bodies = False
    hostile.will(reply(200, {"id": "file-1"}))
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    told: list[int] = []
    async with provider_of(make_plan(hostile.base_url)) as provider:
        tracemalloc.start()
        await provider.upload(Upload(path, "large.jsonl", 100_000_000), told.append)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8_000_000  # the server's share of it included
    assert told == sorted(told)
    assert told[-1] == 100_000_000
    assert len(told) > 100
    assert int(hostile.requests[0].headers["content-length"]) > 100_000_000


async def test_a_file_of_another_size_is_not_sent(hostile, tmp_path) -> None:
    hostile.will(reply(200, {"id": "file-1"}))
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"{}\n")
    async with provider_of(make_plan(hostile.base_url)) as provider:
        for size in (2, 4):
            with pytest.raises(OSError, match="the file has 3 bytes"):
                await provider.upload(Upload(path, "p.jsonl", size), nothing)
        with pytest.raises(FileNotFoundError):
            await provider.upload(Upload(tmp_path / "none", "p.jsonl", 3), nothing)
    assert hostile.requests == []


async def test_a_refusal_in_the_middle_of_an_upload_is_read(hostile, tmp_path) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(20_000_000)

    async def refuse_early(request, writer) -> None:
        await reply(413, {"error": {"message": "too large", "code": "file_too_large"}})(request, writer)
        await never(request, writer)

    hostile.read_first = False
    hostile.will(refuse_early)
    async with provider_of(make_plan(hostile.base_url)) as provider:
        with pytest.raises(Refused) as caught:
            await provider.upload(Upload(path, "large.jsonl", 20_000_000), nothing)
    assert (caught.value.status, caught.value.code) == (413, "file_too_large")


async def test_a_file_that_the_service_is_still_taking_in(hostile, tmp_path) -> None:
    hostile.will(
        reply(201, {"id": "file-1", "status": "pending"}),
        reply(200, {"id": "file-1", "status": "running"}),
        reply(200, {"id": "file-1", "status": "processed"}),
    )
    clock = QuickClock()
    async with provider_of(make_plan(hostile.base_url, BY_NAME["azure"]), clock) as provider:
        file = pack(provider, tmp_path / "p.jsonl", ["a"], "/chat/completions", TOKEN)
        assert await provider.upload(file, nothing) == "file-1"
        assert [r.path for r in hostile.requests] == ["/v1/files", "/v1/files/file-1", "/v1/files/file-1"]
        assert clock.slept == [1.0, 2.0]
        hostile.will(reply(201, {"id": "file-1", "status": "pending"}))
        with pytest.raises(Throttled, match="still taking the file in"):
            await provider.upload(file, nothing)
        hostile.will(reply(201, {"id": "file-1", "status": "error", "status_details": f"bad line {SECRET}"}))
        with pytest.raises(Refused, match=r"bad line \*\*\*"):
            await provider.upload(file, nothing)


FILE: dict[str, Any] = {"id": "file-1", "filename": f"{TOKEN}.jsonl", "bytes": 3, "status": "processed"}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (FILE, True),
        (FILE | {"filename": None, "fileName": f"{TOKEN}.jsonl", "status": None}, True),
        (FILE | {"bytes": None}, True),
        (FILE | {"bytes": 4}, False),
        (FILE | {"filename": "other.jsonl"}, False),
        (FILE | {"status": "error"}, False),
        (FILE | {"id": ""}, False),
    ],
)
async def test_a_lost_upload_is_found(entry, found, hostile, tmp_path) -> None:
    other = FILE | {"id": "file-0", "filename": "x.jsonl"}
    hostile.will(
        reply(200, {"data": [other, 5], "has_more": True, "last_id": "file-0"}),
        reply(200, {"data": [entry], "has_more": False}),
    )
    file = Upload(tmp_path / "p.jsonl", f"{TOKEN}.jsonl", 3)
    async with provider_of(make_plan(hostile.base_url)) as provider:
        assert await provider.find_upload(file) == ("file-1" if found else None)
    first, second = hostile.requests
    assert (first.path, first.query) == ("/v1/files", {"limit": "100", "purpose": "batch", "order": "desc"})
    assert second.query["after"] == "file-0"


async def test_the_search_for_an_upload_has_an_end(hostile, tmp_path) -> None:
    count = 0

    async def endless(request, writer) -> None:
        nonlocal count
        count += 1
        await reply(200, {"data": [{"id": f"f{count}"}], "has_more": True})(request, writer)

    hostile.will(endless)
    async with provider_of(make_plan(hostile.base_url)) as provider:
        assert await provider.find_upload(Upload(tmp_path, "x", 1)) is None
    assert count == 20


# cancelling


async def test_a_cancel(hostile) -> None:
    hostile.will(reply(200, batch(status="cancelling")))
    async with provider_of(make_plan(hostile.base_url)) as provider:
        status = await provider.cancel("batch_1")
    assert status is not None
    assert status.state is BatchState.CANCELLING
    assert hostile.requests[0].body == b""


@pytest.mark.parametrize("refusal", [400, 404, 409, 422])
async def test_the_cancel_of_a_batch_that_has_ended(refusal, hostile) -> None:
    said = {"error": {"message": "Cannot cancel a batch with status 'completed'."}}
    async with provider_of(make_plan(hostile.base_url)) as provider:
        hostile.will(reply(refusal, said), reply(200, batch(status="completed")))
        if refusal == 404:
            with pytest.raises(NotFound):
                await provider.cancel("batch_1")
            return
        assert await provider.cancel("batch_1") is None
        hostile.will(reply(refusal, said), reply(200, batch(status="cancelling")))
        status = await provider.cancel("batch_1")
        assert status is not None
        assert status.state is BatchState.CANCELLING
        hostile.will(reply(refusal, said), reply(200, batch(status="in_progress")))
        with pytest.raises((Refused, Unsettled), match="cannot be cancelled"):
            await provider.cancel("batch_1")


# for doctor


async def test_models(hostile) -> None:
    async with provider_of(make_plan(hostile.base_url)) as provider:
        hostile.will(reply(200, {"data": [{"id": "a"}, {"id": ""}, {}, {"id": "b"}]}))
        assert await provider.models() == ["a", "b"]
        hostile.will(reply(200, [{"id": "a"}]))
        assert await provider.models() == ["a"]
        hostile.will(reply(404, b"<html>"))
        assert await provider.models() is None
        hostile.will(reply(200, b"<html>"))
        assert await provider.models() is None


async def test_a_ping_wants_a_list(hostile) -> None:
    async with provider_of(make_plan(hostile.base_url)) as provider:
        hostile.will(reply(200, {"data": []}))
        await provider.ping_batches()
        assert hostile.requests[0].query == {"limit": "1"}
        hostile.will(reply(200, b"<html>hello</html>"))
        with pytest.raises(Unsettled):
            await provider.ping_batches()


def test_a_plan_without_batches() -> None:
    with pytest.raises(ValueError, match="no batches"):
        make_provider(make_plan("http://h/v1", batch=None), SystemClock())
    with pytest.raises(ValueError, match="no adapter 'smoke'"):
        make_provider(make_plan("http://h/v1", api={"adapter": "smoke"}), SystemClock())
