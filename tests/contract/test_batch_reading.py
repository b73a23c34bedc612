"""How every adapter finds batches again, and reads their results."""

from __future__ import annotations

import email.utils
from typing import Any

import pytest
from hostile import cut, reply
from provider_kit import (
    BY_NAME,
    SECRET,
    TOKEN,
    batch,
    make_plan,
    provider_of,
)

from batch_inferd.backends.batch.provider import (
    NotFound,
    ResultRef,
    Unsettled,
)
from batch_inferd.seams.clock import SystemClock

OUTPUT = ResultRef("output", "file-o")
NOW = 1_790_000_000


def nothing(*_: object) -> None:
    return


# looking for a batch


def listed(*created: float, **fields: Any) -> list[dict[str, Any]]:
    return [batch(id=f"b{at:.0f}", created_at=at, **fields) for at in created]


async def seen(hostile, since: float, **plan: Any) -> list[str]:
    async with provider_of(make_plan(hostile.base_url, **plan)) as provider:
        return [status.id async for status in provider.recent(since)]


async def test_recent_pages_back_until_all_are_older(hostile) -> None:
    hostile.will(
        reply(200, {"data": listed(NOW + 30, NOW + 20), "has_more": True}),
        reply(200, {"data": listed(NOW + 10, NOW - 5000), "has_more": True}),
        reply(200, {"data": listed(NOW - 6000, NOW - 7000), "has_more": True}),
        reply(200, {"data": listed(NOW - 8000)}),
    )
    assert await seen(hostile, NOW) == [f"b{NOW + 30}", f"b{NOW + 20}", f"b{NOW + 10}"]
    assert [r.query for r in hostile.requests] == [
        {"limit": "100"},
        {"limit": "100", "after": f"b{NOW + 20}"},
        {"limit": "100", "after": f"b{NOW - 5000}"},
    ]


async def test_recent_with_a_cursor(hostile) -> None:
    hostile.will(
        reply(200, {"data": listed(NOW + 2), "paging": {"next_cursor": "c1"}}),
        reply(200, {"data": listed(NOW + 1), "paging": {"next_cursor": None}}),
    )
    assert await seen(hostile, NOW, profile=BY_NAME["groq"]) == [f"b{NOW + 2}", f"b{NOW + 1}"]
    assert hostile.requests[1].query == {"limit": "100", "cursor": "c1"}


async def test_recent_of_a_list_without_pages(hostile) -> None:
    hostile.will(reply(200, listed(*range(NOW, NOW + 150))))
    assert len(await seen(hostile, NOW)) == 150
    assert len(hostile.requests) == 2  # it looked for a second page, and knew the first one again


async def test_recent_of_a_list_that_begins_with_the_oldest(hostile) -> None:
    hostile.will(
        reply(200, {"data": listed(NOW - 9000, NOW - 8000), "has_more": True}),
        reply(200, {"data": listed(NOW - 7000, NOW + 1), "has_more": False}),
    )
    assert await seen(hostile, NOW) == [f"b{NOW + 1}"]


async def test_recent_does_not_trust_our_own_clock(hostile) -> None:
    now = SystemClock().now()
    late = {"Date": email.utils.formatdate(now - 7200, usegmt=True)}  # we are two hours ahead
    hostile.will(reply(200, {"data": listed(now - 7190)}, headers=late))
    assert len(await seen(hostile, now)) == 1
    hostile.will(reply(200, {"data": listed(now - 7190)}))
    assert len(await seen(hostile, now)) == 0


async def test_a_batch_is_known_by_its_token_or_by_its_input(hostile) -> None:
    hostile.will(reply(200, {"data": [batch(), batch(id="b2", metadata=None)]}))
    async with provider_of(make_plan(hostile.base_url)) as provider:
        found = [(s.id, s.token, s.input_ref) async for s in provider.recent(0.0)]
    assert found == [("batch_1", TOKEN, "file-1"), ("b2", None, "file-1")]


# downloads


async def test_a_download(hostile) -> None:
    content = b'{"custom_id":"r1"}\r\n' * 50_000
    hostile.will(reply(200, content))
    events: list[object] = []
    async with provider_of(make_plan(hostile.base_url)) as provider:
        size = await provider.download(OUTPUT, events.append, lambda: events.append("opened"))
    assert events[0] == "opened"
    pieces = [event for event in events[1:] if isinstance(event, bytes)]
    assert b"".join(pieces) == content
    assert size == len(content)
    assert max(map(len, pieces)) <= 1 << 20


async def test_an_empty_download(hostile) -> None:
    for answer in (reply(200, b""), reply(204, b"")):
        hostile.will(answer)
        async with provider_of(make_plan(hostile.base_url)) as provider:
            assert await provider.download(OUTPUT, nothing, nothing) == 0


async def test_opened_is_not_told_of_a_refusal(hostile) -> None:
    hostile.will(reply(404, b"gone"))
    events: list[str] = []
    async with provider_of(make_plan(hostile.base_url)) as provider:
        with pytest.raises(NotFound):
            await provider.download(OUTPUT, nothing, lambda: events.append("opened"))
    assert events == []


async def test_content_may_lie_elsewhere(hostile) -> None:
    here = {"Location": "/v1/files/other/content?sig=a%20b"}
    there = {"Location": f"http://localhost:{hostile.port}/bucket/o?sig=a%20b"}
    async with provider_of(make_plan(hostile.base_url, query={"api-version": "v"})) as provider:
        hostile.will(reply(302, b"", headers=here), reply(200, b"xx"))
        assert await provider.download(OUTPUT, nothing, nothing) == 2
        first, second = hostile.requests
        assert second.target == "/v1/files/other/content?sig=a%20b"
        assert second.headers["authorization"] == first.headers["authorization"]
        hostile.will(reply(307, b"", headers=there), reply(200, b"xxx"))
        assert await provider.download(OUTPUT, nothing, nothing) == 3
        assert hostile.requests[1].target == "/bucket/o?sig=a%20b"
        assert SECRET not in str(hostile.requests[1].headers)
        hostile.will(reply(302, b"", headers=here))
        with pytest.raises(Unsettled, match="redirected more than"):
            await provider.download(OUTPUT, nothing, nothing)
        hostile.will(reply(302, b"", headers={"Location": "ftp://h/x"}))
        with pytest.raises(Unsettled, match="cannot be followed"):
            await provider.download(OUTPUT, nothing, nothing)


async def test_an_address_for_an_id(hostile, caplog) -> None:
    caplog.set_level("DEBUG")
    hostile.will(reply(200, b"xx"))
    url = f"http://localhost:{hostile.port}/bucket/o?sig=a%20b"
    async with provider_of(make_plan(hostile.base_url)) as provider:
        assert await provider.download(ResultRef("output", url), nothing, nothing) == 2
    assert hostile.requests[0].target == "/bucket/o?sig=a%20b"
    assert SECRET not in str(hostile.requests[0].headers)
    assert "sig=" not in caplog.text  # such an address is as good as a key


async def test_a_download_begins_anew_when_it_broke(hostile) -> None:
    hostile.will(cut(b"x" * 10, of=20), reply(200, b"y" * 20))
    async with provider_of(make_plan(hostile.base_url)) as provider:
        with pytest.raises(Unsettled):
            await provider.download(OUTPUT, nothing, nothing)
        assert await provider.download(OUTPUT, nothing, nothing) == 20
