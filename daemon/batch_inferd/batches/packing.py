"""From ready chunks to submissions: which lines go together, and when leftovers have waited long enough.

Chunks that were never packed go out as they come; a chunk and a submission have the same upper bound of
lines, so that one is mostly the other. What submissions left over (failed, expired, absent lines of many
chunks) is pooled: it goes out together when there is enough for a whole submission, when nothing else is
under way, or when it has waited for ten minutes.
"""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_inferd.batches.submission import Detail, MostTokens, Submission, new_token
from batch_inferd.journal.names import chunk_name
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.store.submissions import ChunkEnd, Lines, NewSubmission, count_lines

if TYPE_CHECKING:
    from batch_inferd.batches.run import BatchRun
    from batch_inferd.store.taskdb import ChunkRow

POOL_S = 600.0
CHUNKS_MAX = 1000  # of one packing: bounds its messages
RANGES_MAX = 5000
FILES_MAX = 64
_SHARE = 0.95  # of the caps in bytes: whether megabytes are 2^20 bytes is rarely said


class Half(NamedTuple):
    """Lines of a refused batch that are to be sent by themselves."""

    lines: Lines
    depth: int
    family: int


def cap_of_lines(run: BatchRun) -> int:
    """Lines of a submission: the config's chunk size is the upper bound."""
    api = run.api
    return max(1, min(int(run.task.config["config"]["lines_per_chunk"]), api.max_requests))


async def choose(run: BatchRun, *, quiet: bool) -> list[ChunkRow]:
    """The chunks whose lines are packed next; none when there is nothing to pack now.

    `quiet`: nothing else of the task is under way. Raises sqlite3.Error.
    """
    run.pool_due = None
    cap = cap_of_lines(run)
    fresh = fit(run, await run.store.to_pack(CHUNKS_MAX, left_over=False), cap)
    if fresh:
        return fresh
    left = [row for row in await run.store.to_pack(CHUNKS_MAX, left_over=True) if row.n not in run.busy]
    now = run.clock.now()
    oldest = min((row.since for row in left if row.since is not None), default=math.inf)
    enough = sum(_lines_of(row) for row in left) >= cap
    due = now - oldest >= POOL_S or oldest > now  # the latter: the clock was set back
    if enough or due or (quiet and run.task.input_complete):
        return fit(run, left, cap)
    run.pool_due = oldest + POOL_S if left else None
    return []


def fit(run: BatchRun, rows: list[ChunkRow], cap: int) -> list[ChunkRow]:
    """The first rows that fill one submission, without those that are being worked on."""
    chosen: list[ChunkRow] = []
    total = 0
    for row in rows:
        if row.n in run.busy:
            continue
        total += _lines_of(row)
        if chosen and total > cap:
            break
        chosen.append(row)
    return chosen


def _lines_of(row: ChunkRow) -> int:
    return max(0, row.open - row.packed)


async def pack(run: BatchRun, rows: list[ChunkRow], half: Half | None = None) -> list[Submission]:
    """Pack the open lines of these chunks, or those of a half, and commit what came of it.

    Raises OSError, sqlite3.Error, JobLost, FolderGone.
    """
    api, job = run.api, uuid.uuid4().hex[:12]
    live = await run.store.live_lines(row.n for row in rows)
    cap = cap_of_lines(run)
    params = {
        "round": run.task.round,
        "prefix": f"batches/{job}",
        "max_requests": cap,
        "max_bytes": int(api.max_bytes * _SHARE),
        "max_line_bytes": int(api.max_line_bytes * _SHARE),
        "max_tokens": min((n for n in (api.enqueued_tokens, run.most_tokens) if n is not None), default=None),
        "max_ranges": RANGES_MAX,
        "max_files": FILES_MAX,
        "chunks": [chunk_params(row, live, half) for row in rows],
    }
    result = await run.job("pack", params, name=job)
    new = [_new(run, found, half) for found in result["packs"]]
    ends = [ChunkEnd(end["chunk"], end["counts"], end["open"], end["online"]) for end in result["chunks"]]
    now = run.clock.now()
    ids, changes = await run.store.add(new, ends, now)
    failpoint("batch.pack_committed")
    run.changed(changes)
    found = [
        Submission(
            number,
            one.token,
            "packed",
            None,
            None,
            now,
            msgspec.convert(one.detail, Detail),
            one.lines,
        )
        for number, one in zip(ids, new, strict=True)
    ]
    for submission in found:
        run.task.log(
            20,
            f"batch {submission.id}: {submission.detail.requests} records, {submission.detail.bytes} bytes "
            f"of {len(submission.lines)} chunks are packed",
        )
    return found


def chunk_params(row: ChunkRow, live: Lines, half: Half | None) -> dict[str, Any]:
    """A chunk as the worker's job takes it."""
    return {
        "chunk": row.n,
        "chunk_file": chunk_name(row.n),
        "first_line": row.first_line,
        "lines": row.lines,
        "only": None if half is None else half.lines.get(row.n, []),
        "exclude": live.get(row.n, []),
    }


def _new(run: BatchRun, found: dict[str, Any], half: Half | None) -> NewSubmission:
    lines: Lines = {
        int(chunk): [(first, last) for first, last in ranges] for chunk, ranges in found["lines"].items()
    }
    detail = Detail(
        file=found["file"],
        bytes=found["bytes"],
        requests=found["requests"],
        tokens=found["tokens"],
        url=found["url"],
        model=found["model"],
        most=None if found["most"] is None else MostTokens(*found["most"]),
        round=run.task.round,
        holed=found["holed"],
        depth=half.depth if half is not None else 0,
        family=half.family if half is not None else 0,
    )
    if detail.requests != sum(count_lines(ranges) for ranges in lines.values()):
        raise RuntimeError(f"a packed file has {detail.requests} requests, its lines say otherwise")
    return NewSubmission(new_token(), msgspec.to_builtins(detail), lines)
