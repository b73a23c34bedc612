"""The ledger: what reached the service, what it answered, and what it billed. Read straight from disk.

One row a request to a path below /v1. It is written when the request arrives (outcome `received`),
committed with its outcome and bill *before* the answer is sent, and marked `delivered` when all of the
answer went out with the client still there. So a client that dies in between has been billed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.testing.database import select

if TYPE_CHECKING:
    from pathlib import Path

LEDGER_NAME = "ledger.db"
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE requests (
    serial INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    key_digest TEXT,
    model TEXT,
    content_digest TEXT,
    in_flight INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    billed_in INTEGER,
    billed_out INTEGER,
    delivered INTEGER NOT NULL DEFAULT 0
)
"""
_COLUMNS = (
    "serial, time, method, path, key_digest, model, content_digest, in_flight, outcome, status,"
    " billed_in, billed_out, delivered"
)


class LedgerRow(NamedTuple):
    """One request."""

    serial: int  # counts up over all lives of the service
    time: float  # when it arrived: seconds since 1970
    method: str
    path: str
    key_digest: str | None  # None when no key was sent
    model: str | None  # None, as the digest, when the request was refused before its body was read
    content_digest: str | None  # SHA-256 (hex) of the canonical messages or input
    in_flight: int  # requests under way when it arrived, itself included
    outcome: str  # received, answered, error_<status>, dropped, hung, truncated, garbage, slow_loris
    status: int | None  # the status answered; None where there was no answer
    billed_in: int | None  # tokens; None when nothing was billed
    billed_out: int | None
    delivered: bool

    @property
    def billed(self) -> bool:
        """Whether it cost money."""
        return self.billed_in is not None

    @property
    def request_id(self) -> str:
        """The x-request-id that was answered."""
        return request_id(self.serial)


class LedgerSummary(NamedTuple):
    """The whole ledger in counts."""

    requests: int
    by_status: dict[str, int]  # "200", "429", …; "none" where there was no answer
    by_outcome: dict[str, int]
    delivered: int
    billed: int
    billed_in: int  # tokens
    billed_out: int
    billed_again: int  # bills beyond the first one of their content
    billed_twice: dict[str, int]  # content digest -> how often billed, where more than once; the worst 1,000
    max_concurrent: int


def request_id(serial: int) -> str:
    """The x-request-id of a row."""
    return f"req_{serial:012d}"


def read_ledger(state_dir: Path, since: int = 0, limit: int | None = None) -> list[LedgerRow]:
    """The committed rows with a serial above `since`, in order; none where there is no ledger yet.

    Works while the service runs, and after it was killed.
    """
    query = f"SELECT {_COLUMNS} FROM requests WHERE serial > ? ORDER BY serial LIMIT ?"  # noqa: S608  no input
    rows = select(state_dir / LEDGER_NAME, query, (since, -1 if limit is None else limit))
    return [LedgerRow._make((*row[:-1], bool(row[-1]))) for row in rows]


def summarise(state_dir: Path) -> LedgerSummary:
    """The ledger in counts, computed by SQLite."""
    totals = select(
        state_dir / LEDGER_NAME,
        "SELECT COUNT(*), TOTAL(delivered), COUNT(billed_in), TOTAL(billed_in), TOTAL(billed_out),"
        " MAX(in_flight), COUNT(DISTINCT content_digest) FILTER (WHERE billed_in IS NOT NULL) FROM requests",
    )
    requests, delivered, billed, billed_in, billed_out, peak, contents = totals[0] if totals else (0,) * 7
    by_status: Counter[str] = Counter()
    by_outcome: Counter[str] = Counter()
    for status, outcome, count in select(
        state_dir / LEDGER_NAME, "SELECT status, outcome, COUNT(*) FROM requests GROUP BY status, outcome"
    ):
        by_status["none" if status is None else str(status)] += count
        by_outcome[outcome] += count
    twice = select(
        state_dir / LEDGER_NAME,
        "SELECT content_digest, COUNT(*) FROM requests WHERE billed_in IS NOT NULL"
        " GROUP BY content_digest HAVING COUNT(*) > 1 ORDER BY COUNT(*) DESC LIMIT 1000",
    )
    return LedgerSummary(
        requests=requests,
        by_status=dict(by_status),
        by_outcome=dict(by_outcome),
        delivered=int(delivered),
        billed=billed,
        billed_in=int(billed_in),
        billed_out=int(billed_out),
        billed_again=billed - contents,
        billed_twice=dict(twice),
        max_concurrent=peak or 0,
    )
