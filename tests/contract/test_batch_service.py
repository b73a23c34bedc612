"""Every profile's adapter against the test service: a real file store, real batches, real faults."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from provider_kit import FAMILY, SECRET, TOKEN, make_plan, order, pack, provider_of

from batch_inferd.backends.batch import openai
from batch_inferd.backends.batch.provider import (
    BatchState,
    Blocked,
    Capacity,
    NotFound,
    ProviderError,
    Refused,
    ResultRef,
    Throttled,
    Unsettled,
)
from batch_inferd.seams.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from batch_inferd.backends.batch.provider import BatchProvider, BatchStatus, ResultLine
    from batch_inferd.backends.plan import RequestPlan

# The service has the routes and lines of OpenAI; together's own are told by the hostile server.
_ROUTES = {"together": {"upload_path": "/files", "bare_lines": False}}
_CLOCK = SystemClock()


def nothing(*_: object) -> None:
    return


@pytest.fixture(params=FAMILY, ids=lambda p: p.name)
def plan(request, service) -> RequestPlan:
    return make_plan(service.base_url, request.param, api=_ROUTES.get(request.param.name))


@pytest.fixture
def generic(service) -> RequestPlan:
    return make_plan(service.base_url)


@pytest.fixture(autouse=True)
def _controls(service):
    before = service.control()
    yield
    service.control(**before)


async def submit(
    provider: BatchProvider, plan: RequestPlan, folder: Path, texts: list[str], token: str = TOKEN
) -> BatchStatus:
    assert plan.batch is not None
    url = plan.batch.api.urls["chat"]
    file = pack(provider, folder / f"{token}.jsonl", texts, url, token)
    input_ref = await provider.upload(file, nothing)
    return await provider.create(order(input_ref, token, url=url))


async def ended(provider: BatchProvider, batch_id: str) -> BatchStatus:
    deadline = time.monotonic() + 30
    while not (status := await provider.retrieve(batch_id)).state.is_final:
        assert time.monotonic() < deadline, status
        await _CLOCK.sleep(0.02)
    return status


async def results(provider: BatchProvider, status: BatchStatus) -> dict[str | None, ResultLine]:
    found: dict[str | None, ResultLine] = {}
    for ref in status.results:
        data = bytearray()
        assert await provider.download(ref, data.extend, nothing) == len(data)
        for line in bytes(data).split(b"\n"):
            if line.strip():
                read = provider.decode_line(line)
                found[read.key] = read
    return found


async def test_from_lines_to_results(plan, tmp_path) -> None:
    assert plan.batch is not None
    texts = ["two and two?", "你好", "\u2028 and \x85"]
    began = time.time()
    async with provider_of(plan) as provider:
        made = await submit(provider, plan, tmp_path, texts)
        assert made.total in {None, 0, 3}
        status = await ended(provider, made.id)
        assert (status.state, status.total, status.completed, status.failed) == (
            BatchState.COMPLETED,
            3,
            3,
            0,
        )
        assert status.created is not None
        assert status.ended is not None
        assert abs(status.created - began) < 60
        assert status.created <= status.ended + 1
        found = await results(provider, status)
        assert set(found) == {"r1", "r2", "r3"}
        for line in found.values():
            assert (line.status, line.code, line.message) == (200, "", "")
            assert line.body is not None
            assert b'"choices"' in line.body
        assert status.input_ref is not None
        file = pack(provider, tmp_path / f"{TOKEN}.jsonl", texts, plan.batch.api.urls["chat"], TOKEN)
        assert await provider.find_upload(file) == status.input_ref
        await provider.delete_upload(status.input_ref)
        await provider.delete_upload(status.input_ref)
        assert await provider.find_upload(file) is None


async def test_what_was_sent_is_found_again(plan, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(openai, "PAGE", 2)
    assert plan.batch is not None
    since = time.time()
    async with provider_of(plan) as provider:
        made = [await submit(provider, plan, tmp_path, ["x"], f"token-{n}") for n in range(5)]
        found = {status.id: status async for status in provider.recent(since - 5)}
        for n, one in enumerate(made):
            again = found[one.id]
            assert again.token == (f"token-{n}" if plan.batch.api.metadata else None)
            assert again.input_ref == one.input_ref
        file = pack(provider, tmp_path / "f.jsonl", ["x"], plan.batch.api.urls["chat"], "token-0")
        assert await provider.find_upload(file) == made[0].input_ref
        assert await provider.find_upload(file._replace(filename="none.jsonl")) is None
        assert await provider.find_upload(file._replace(size=file.size + 1)) is None


async def test_a_live_batch_is_cancelled_and_an_ended_one_is_not(plan, tmp_path, service) -> None:
    service.control(batch_state_hold="in_progress")
    async with provider_of(plan) as provider:
        made = await submit(provider, plan, tmp_path, ["a", "b"])
        status = await provider.cancel(made.id)
        assert status is None or status.state in {BatchState.CANCELLING, BatchState.CANCELLED}
        assert (await ended(provider, made.id)).state is BatchState.CANCELLED
        assert await provider.cancel(made.id) is None
        service.control(batch_state_hold=None)
        other = await submit(provider, plan, tmp_path, ["c"], "other")
        await ended(provider, other.id)
        assert await provider.cancel(other.id) is None


async def test_a_cut_download_is_fetched_again(plan, tmp_path, service) -> None:
    async with provider_of(plan) as provider:
        made = await submit(provider, plan, tmp_path, [f"q {n}" for n in range(200)])
        status = await ended(provider, made.id)
        service.control(batch_truncate_download=1)
        with pytest.raises(Unsettled):
            await provider.download(status.results[0], nothing, nothing)
        assert len(await results(provider, status)) == 200


async def test_objects_that_never_were(plan) -> None:
    async with provider_of(plan) as provider:
        for call in (
            provider.retrieve("batch_none"),
            provider.cancel("batch_none"),
            provider.download(ResultRef("output", "file-none"), nothing, nothing),
        ):
            with pytest.raises(NotFound):
                await call
        await provider.delete_upload("file-none")
        with pytest.raises(Refused) as caught:
            await provider.create(order("file-none"))
        assert caught.value.code != "no_batch_api"


async def test_models_and_ping(plan) -> None:
    assert plan.batch is not None
    async with provider_of(plan) as provider:
        await provider.ping_batches()
        found = await provider.models()
    assert (found is None) == (plan.batch.api.models_path is None)
    assert found is None or "test-model" in found


DIALECTS = [
    {"batch_null_counts": True, "batch_blank_ids": True},
    {"batch_extra_state": True},
    {"batch_upper_states": True, "batch_uuid_ids": True},
    {"batch_body_string": True, "batch_crlf": True, "batch_no_final_newline": True},
    {"batch_no_error_key": True, "batch_empty_error_file": True, "batch_shuffle": True},
]


@pytest.mark.parametrize("controls", DIALECTS, ids="-".join)
async def test_dialects(controls, generic, tmp_path, service) -> None:
    service.control(**controls)
    async with provider_of(generic) as provider:
        made = await submit(provider, generic, tmp_path, ["a", "b", "c"])
        status = await ended(provider, made.id)
        assert status.state is BatchState.COMPLETED
        found = await results(provider, status)
        assert set(found) == {"r1", "r2", "r3"}
        assert {line.status for line in found.values()} == {200}


@pytest.mark.parametrize("shape", ["response_null", "no_response", "with_response"])
async def test_error_lines(shape, generic, tmp_path, service) -> None:
    service.control(batch_error_rate=1.0, batch_error_line=shape)
    async with provider_of(generic) as provider:
        status = await ended(provider, (await submit(provider, generic, tmp_path, ["a"])).id)
        (line,) = (await results(provider, status)).values()
    assert line.key == "r1"
    assert line.status == 500 or line.code or line.message


async def test_expired_keeps_what_was_done(generic, tmp_path, service) -> None:
    service.control(batch_outcome="expired", batch_expire_share=0.5)
    async with provider_of(generic) as provider:
        status = await ended(provider, (await submit(provider, generic, tmp_path, ["a", "b"])).id)
        assert status.state is BatchState.EXPIRED
        found = await results(provider, status)
    assert sorted(line.code for line in found.values()) == ["", "batch_expired"]


async def test_a_validation_names_lines(generic, tmp_path, service) -> None:
    service.control(batch_outcome="validation_lines", batch_invalid=["bad"])
    async with provider_of(generic) as provider:
        status = await ended(provider, (await submit(provider, generic, tmp_path, ["a", "bad", "c"])).id)
    assert status.state is BatchState.FAILED
    assert [problem.line for problem in status.problems] == [2]


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ({"accept_then_reset": 1}, Unsettled),
        ({"create_5xx": 1}, Unsettled),
        ({"reject_create_429": 1}, Throttled),
        ({"reject_create_token_limit": 1}, Capacity),
        ({"max_in_flight_batches": 1, "batch_state_hold": "in_progress"}, Capacity),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.__name__,
)
async def test_a_create_that_is_not_answered_well(controls, expected, generic, tmp_path, service) -> None:
    since, token = time.time(), f"lost-{'-'.join(controls)}"
    service.control(**controls)
    async with provider_of(generic) as provider:
        if "max_in_flight_batches" in controls:
            await submit(provider, generic, tmp_path, ["first"], "first")
        with pytest.raises(ProviderError) as caught:
            await submit(provider, generic, tmp_path, ["a"], token)
        assert type(caught.value) is expected
        found = [status async for status in provider.recent(since)]
        assert len([s for s in found if s.token == token]) == (1 if expected is Unsettled else 0)
        for status in found:
            if not status.state.is_final:
                await provider.cancel(status.id)


async def test_a_lost_upload(generic, tmp_path, service) -> None:
    service.control(drop_upload=1)
    async with provider_of(generic) as provider:
        file = pack(provider, tmp_path / "f.jsonl", ["a"], "/v1/chat/completions", "dropped")
        with pytest.raises(Unsettled):
            await provider.upload(file, nothing)
        assert await provider.find_upload(file) is not None


async def test_credentials(generic, tmp_path, service) -> None:
    service.control(auth="401")
    async with provider_of(generic) as provider:
        with pytest.raises(Blocked) as caught:
            await submit(provider, generic, tmp_path, ["a"])
    assert caught.value.cls == "auth"
    assert SECRET not in str(caught.value)
