"""The ledger of batches: which there were, what was in them, and what was billed. Read straight from disk.

The lines of a batch are written down when its file is read, before the validation ends; what a line
costs is committed when its result is produced, and only then can the result be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.testing.database import select

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BATCHES_NAME = "batches.db"
BATCHES_VERSION = 1
_PAGE = 1000


class BatchRow(NamedTuple):
    """One batch."""

    id: str
    created: float  # seconds since 1970, by the service's clock, as all times
    ended: float | None  # when it reached its last state; None while it is live
    token: str | None  # metadata.batch_infer_token
    input_file: str
    input_sha256: str
    input_bytes: int
    endpoint: str
    model: str | None  # None until the validation is over, as `lines`
    lines: int | None
    state: str  # OpenAI's word, whatever the controls make of it
    completed: int  # lines
    failed: int
    billed_lines: int
    billed_in: int  # tokens
    billed_out: int

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.ended is None


class LineRow(NamedTuple):
    """One line of a batch."""

    batch: str  # the batch's id
    line: int  # 1-based, in its file
    custom_id: str | None
    content_digest: str | None  # SHA-256 (hex) of the canonical messages or input; None: it has none
    billed_in: int | None  # tokens; None when nothing was billed
    billed_out: int | None

    @property
    def billed(self) -> bool:
        """Whether it cost money."""
        return self.billed_in is not None


def read_batches(state_dir: Path) -> list[BatchRow]:
    """All batches in the order of their creation. Works while the service runs, and after it was killed."""
    rows = select(
        state_dir / BATCHES_NAME,
        "SELECT id, created, ended, token, input_file, input_sha256, input_bytes, endpoint, model, lines,"
        " state, completed, failed, COALESCE(billed_lines, 0), COALESCE(total_in, 0), COALESCE(total_out, 0)"
        " FROM batches LEFT JOIN (SELECT batch, COUNT(billed_in) billed_lines, SUM(billed_in) total_in,"
        " SUM(billed_out) total_out FROM lines GROUP BY batch) ON batch = seq ORDER BY seq",
    )
    return [BatchRow._make(row) for row in rows]


def read_batch_lines(state_dir: Path, batch_id: str | None = None) -> Iterator[LineRow]:
    """The lines of one batch or of all, in order, a page at a time."""
    for seq, name in select(state_dir / BATCHES_NAME, "SELECT seq, id FROM batches ORDER BY seq"):
        if batch_id in (None, name):
            yield from _lines_of(state_dir, seq, name)


def _lines_of(state_dir: Path, seq: int, name: str) -> Iterator[LineRow]:
    query = (
        "SELECT line, custom_id, lower(hex(digest)), billed_in, billed_out FROM lines"
        " WHERE batch = ? AND line > ? ORDER BY line LIMIT ?"
    )
    last = 0
    while rows := select(state_dir / BATCHES_NAME, query, (seq, last, _PAGE)):
        for line, custom_id, digest, billed_in, billed_out in rows:
            yield LineRow(name, line, custom_id, digest or None, billed_in, billed_out)
        last = rows[-1][0]


def overlapping_lines(state_dir: Path) -> list[str]:
    """The content digests that were in two batches that were live at the same time."""
    rows = select(
        state_dir / BATCHES_NAME,
        "SELECT DISTINCT lower(hex(digest)), seq, created, ended FROM lines JOIN batches ON seq = batch"
        " WHERE digest IN (SELECT digest FROM lines GROUP BY digest HAVING MIN(batch) < MAX(batch))"
        " ORDER BY digest, seq",
    )
    found: dict[str, None] = {}
    before, until = "", 0.0  # the digest, and when the last of its batches so far has ended
    for digest, _, created, ended in rows:
        ends = float("inf") if ended is None else ended
        if digest == before:
            if created < until:
                found[digest] = None
            until = max(until, ends)
        else:
            before, until = digest, ends
    return list(found)


def billed_twice(state_dir: Path) -> list[str]:
    """The content digests that were billed in more than one batch."""
    rows = select(
        state_dir / BATCHES_NAME,
        "SELECT lower(hex(digest)) FROM lines WHERE billed_in IS NOT NULL AND digest IS NOT NULL"
        " GROUP BY digest HAVING MIN(batch) < MAX(batch) ORDER BY digest",
    )
    return [digest for (digest,) in rows]
