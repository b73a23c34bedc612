"""Submissions as clients see them: the SUBMISSION and `batches` shapes of docs/cli.md."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.batches import submission as states
from batch_inferd.batches.submission import LOSS_WARNING_S, Detail

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
        "age_s": round((ended or now) - (detail.submitted or row.created), 1),
        "expires": detail.expires,
        "left_s": round(detail.expires - now, 1) if detail.expires is not None and ended is None else None,
        "ended": ended,
        "next_look": live.next_look if live is not None and live.state == states.LIVE else None,
        "waiting": live.wait.to_json() if live is not None and live.wait is not None else None,
        "results": detail.results,
        "round": detail.round,
        "url": detail.url,
        "model": detail.model,
        "message": detail.message or None,
    }


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
        "waiting": len(run.open) - len(live),
        "collected": run.collected,
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
        found["retention"] = {"code": "retention", "text": text.to_wire(), "since": None, "next_try": lost}
    if not (run.task.running or run.cancelling):
        return list(found.values())  # it rests: it waits for nothing else
    for one in run.open.values():
        if one.wait is not None and one.wait.code not in found:
            found[one.wait.code] = one.wait.to_json()
    reach = run.reach if run.task.plan is not None else None
    if reach is not None and reach.down is not None:
        text = Text(
            "the network is down: {detail}; waiting, and going on by itself when it returns",
            {"detail": reach.down},
        )
        entry = {"code": "network", "text": text.to_wire(), "since": reach.since, "next_try": reach.next_try}
        found["network"] = entry
    if run.cancelling and run.open:
        text = Text("waiting for the provider's last word on {n} batches", {"n": len(run.open)})
        found["cancel"] = {
            "code": "cancel",
            "text": text.to_wire(),
            "since": None,
            "next_try": run.cancel_until,
        }
    live = sum(one.state == states.LIVE for one in run.open.values())
    if live and not run.cancelling:
        text = Text("{n} batches run at the provider", {"n": live})
        looks = [one.next_look for one in run.open.values() if one.next_look is not None]
        found["batches"] = {
            "code": "batches",
            "text": text.to_wire(),
            "since": None,
            "next_try": None if not looks else min(looks),
        }
    if run.pool_due is not None and not run.open:
        text = Text("leftover records are pooled into one batch")
        found["pool"] = {"code": "pool", "text": text.to_wire(), "since": None, "next_try": run.pool_due}
    return list(found.values())


def _lost_at(run: BatchRun) -> float | None:
    """When the provider may remove results that are not here yet, where that is near."""
    first = run.lost_at()
    return first if first is not None and first - run.clock.now() < LOSS_WARNING_S else None
