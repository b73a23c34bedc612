"""What every adapter makes of a network and a service at their worst. Nothing is sent twice, nothing told."""

from __future__ import annotations

import pytest
from acts_kit import (
    ACTS,
    ONE_OBJECT,
    cancel,
    create,
    download,
    failure,
    find,
    models,
    ping,
    recent,
    retrieve,
    said,
    upload,
)
from hostile import cut, hang_up, raw, reply, reset
from provider_kit import FAMILY, SECRET, batch, make_plan, provider_of

from batch_inferd.backends.batch.provider import (
    Blocked,
    Capacity,
    NotFound,
    Refused,
    Throttled,
    Unsettled,
)
from batch_inferd.backends.batch.verdicts import NO_BATCH_API


@pytest.fixture(autouse=True)
def _script(hostile) -> None:
    hostile.will(reply(400, said("no")))


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
