"""Submissions as clients see them: the SUBMISSION and `batches` shapes of docs/cli.md."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.batches import submission as states
from batch_inferd.batches.submission import LOSS_WARNING_S, Detail
from batch_inferd.store.submissions import CLOSED

if TYPE_CHECKING:
    from batch_inferd.batches.run import BatchRun
    from batch_inferd.batches.submission import Submission
    from batch_inferd.store.submissions import SubmissionRow


async def page(run: BatchRun, before: int | None, limit: int) -> dict[str, Any]:
    """`{rows, next}`: submissions below id `before`, newest first. Raises sqlite3.Error."""
    found = await run.store.page(before, limit)
    rows = [_row(run, row, chunks, count) for row, chunks, count in found]
    return {"rows": rows, "next": found[-1][0].id if len(found) == limit else None}


def _row(run: BatchRun, row: SubmissionRow, chunks: list[int], chunk_count: int) -> dict[str, Any]:
    live = run.open.get(row.id)
    detail = live.detail if live is not None else msgspec.convert(row.detail, Detail)
    now = run.clock.now()
    ended = detail.ended
    return {
        "submission": row.id,
        "batch": live.upstream_id if live is not None else row.upstream_id,
        "state": shown_state(live) if live is not None else row.state,
        "upstream_state": detail.raw_state,
        "counts": {"total": detail.total, "completed": detail.completed, "failed": detail.failed},
        "requests": detail.requests,
        "bytes": detail.bytes,
        "tokens": detail.tokens,
        "chunks": chunks,
        "chunk_count": chunk_count,
        "created": detail.submitted or row.created,
        "age_s": round(_until(row, detail, now) - (detail.submitted or row.created), 1),
        "expires": detail.expires,
        "left_s": round(detail.expires - now, 1)
        if detail.expires is not None and ended is None and live is not None and live.upstream_id
        else None,
        "ended": ended,
        "next_look": live.next_look if live is not None and live.state == states.LIVE else None,
        "waiting": _row_waits(run, live),
        "results": detail.results,
        "cost": run.task.money.of_batch(detail),
        "round": detail.round,
        "url": detail.url,
        "model": detail.model,
        "message": detail.message[:500] or None,
    }


def _until(row: SubmissionRow, detail: Detail, now: float) -> float:
    """The end of its age: now, while it has not ended."""
    return detail.ended or (row.updated if row.state in CLOSED else now)


def _row_waits(run: BatchRun, live: Submission | None) -> dict[str, Any] | None:
    if live is None:
        return None
    if live.wait is not None:
        return live.wait.to_json()
    if not (run.task.running or run.cancelling):
        return None
    return _network(run) or _trouble(run, live)


def _trouble(run: BatchRun, one: Submission) -> dict[str, Any] | None:
    said = run.poller.trouble(run.key(one)) if run.task.plan is not None else None
    if said is None:
        return None
    return _entry("service", Text("the service does not answer as it should: {detail}", {"detail": said}))


def shown_state(one: Submission) -> str:
    """Its state in one word for people."""
    if one.wait is not None and one.wait.code == "capacity":
        return "waiting_for_capacity"
    if one.state == states.LIVE and one.detail.cancel:
        return "cancelling"
    if one.step:
        return one.step
    return one.state


def batches(run: BatchRun) -> dict[str, Any]:
    """The `batches` of a summary: its size never grows with the task."""
    now = run.clock.now()
    live = [one for one in run.open.values() if one.state == states.LIVE]
    names = Counter(one.detail.raw_state or "unknown" for one in live)
    ages = [now - (one.detail.submitted or one.created) for one in live]
    left = [one.detail.expires - now for one in live if one.detail.expires is not None]
    looks = [one.next_look for one in live if one.next_look is not None]
    return {
        "live": len(live),
        "waiting": sum(one.state in states.BEFORE_LIVE for one in run.open.values()),
        "collecting": sum(one.state == states.ENDED for one in run.open.values()),
        "collected": run.collected,
        "refused": run.refused,
        "dropped": run.dropped,
        "states": dict(names.most_common(10)),
        "requests": {
            "total": sum(one.detail.requests for one in live),
            "completed": sum(one.detail.completed or 0 for one in live),
            "failed": sum(one.detail.failed or 0 for one in live),
        },
        "enqueued_tokens": sum(one.detail.tokens for one in live),
        "next_look": min(looks, default=None),
        "oldest_s": round(max(ages), 1) if ages else None,
        "left_s": round(min(left), 1) if left else None,
    }


def waits(run: BatchRun) -> list[dict[str, Any]]:
    """What a task's submissions wait for, one entry a kind, in the shape of a summary's `waiting`."""
    found: dict[str, dict[str, Any]] = {}
    if (lost := _lost_at(run)) is not None:
        text = Text("results that are not fetched by then may be gone at the provider")
        found["retention"] = _entry("retention", text, lost)
    live = sum(one.state == states.LIVE for one in run.open.values())
    if not (run.task.running or run.task.cancelling):  # it rests: it waits for nothing else
        if live:
            text = Text(
                "batches that run on at the provider: {n}; fetched once the task goes on", {"n": live}
            )
            found["batches"] = _entry("batches", text)
        return list(found.values())
    for one in run.open.values():
        wait = one.wait.to_json() if one.wait is not None else _trouble(run, one)
        if wait is not None:
            found.setdefault(wait["code"], wait)
    if (down := _network(run)) is not None:
        found["network"] = down
    if run.cancelling and run.open:
        text = Text("batches whose last state the provider has yet to tell: {n}", {"n": len(run.open)})
        found["cancel"] = _entry("cancel", text)
    elif live:
        found["batches"] = _entry("batches", Text("batches that run at the provider: {n}", {"n": live}))
    if run.pool_due is not None and not run.open:
        found["pool"] = _entry("pool", Text("leftover records are pooled into one batch"))
    return list(found.values())


def late_wait(late: int) -> dict[str, Any]:
    """What a cancelled task says of batches that had not ended."""
    text = Text(
        "batches that had not ended, or could not be cancelled: {n}; they may still cost money, "
        "and what they bring is fetched and merged when they end",
        {"n": late},
    )
    return _entry("late", text)


def _entry(code: str, text: Text, next_try: float | None = None) -> dict[str, Any]:
    return {"code": code, "text": text.to_wire(), "since": None, "next_try": next_try}


def _network(run: BatchRun) -> dict[str, Any] | None:
    reach = run.reach if run.task.plan is not None else None
    if reach is None or reach.down is None:
        return None
    text = Text(
        "the network is down: {detail}; waiting, and going on by itself when it returns",
        {"detail": reach.down},
    )
    return {"code": "network", "text": text.to_wire(), "since": reach.since, "next_try": reach.next_try}


def _lost_at(run: BatchRun) -> float | None:
    """When the provider may remove results that are not here yet, where that is near."""
    first = run.lost_at()
    return first if first is not None and first - run.clock.now() < LOSS_WARNING_S else None
