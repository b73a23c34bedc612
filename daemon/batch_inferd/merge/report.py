"""report.json: what became of every line of the input. docs/report.md describes it for users."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_inferd.lines import BLOCK
from batch_inferd.merge.outputs import FileFacts, OutputFile
from batch_inferd.merge.publish import REPORT
from batch_inferd.money.cost import amount, cost_json, spent

if TYPE_CHECKING:
    from batch_inferd.merge.chunk import MergeChunk
    from batch_inferd.merge.tally import Counts, Problems, Tally
    from batch_inferd.money.prices import Price
    from batch_inferd.money.used import Used
    from batch_inferd.seams.files import Directory

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What merge cannot know by itself.

    `state` is what the task will be if the identity holds ("completed" or "cancelled"); `started` and
    `ended` are seconds since 1970; `left_out` counts the input lines beyond test_lines, `skipped` the
    records that an earlier output (`-done`) answers; `unread` says where a cancelled task stopped reading:
    {"line": from 1, "byte": offset}.
    """

    task_id: str
    uuid: str
    state: str
    started: float | None
    ended: float | None
    left_out: int = 0
    skipped: int = 0
    unread: dict[str, int] | None = None
    backend: str = "online"
    batches: dict[str, Any] | None = None
    price: Price | None = None  # None: none is known
    budget: dict[str, float] | None = None  # what its cost says of a budget


class ChunkLines:
    """The report's `chunks`, one a line, kept in the stage until the rest of the report is known."""

    NAME = "chunks.part"

    def __init__(self, directory: Directory, stage: str, price: Price | None = None) -> None:
        """Create the file. With a price, each chunk has its cost. Raises OSError."""
        self._price = price
        self._directory = directory
        self._name = f"{stage}/{self.NAME}"
        self._out = OutputFile(directory, self._name)
        self._separator = b"\n    "

    def add(self, row: MergeChunk, counts: Counts, retries: int, used: Used) -> None:
        """The next chunk, and what was used for it. Raises OSError."""
        line = {"chunk": row.chunk, "first_line": row.first_line, "lines": row.lines}
        end: dict[str, Any] = {"retries": retries}
        if self._price is not None:
            end["cost"] = amount(spent(used, self._price))
        self._out.write(self._separator + json.dumps({**line, **counts.to_json(), **end}).encode())
        self._separator = b",\n    "

    def move_to(self, report: OutputFile) -> None:
        """Copy everything to the report and remove the file. Raises OSError."""
        self._out.finish()
        fd = self._directory.open(self._name, os.O_RDONLY)
        try:
            while data := os.read(fd, BLOCK):
                report.write(data)
        finally:
            os.close(fd)
        self._directory.unlink(self._name)

    def abandon(self) -> None:
        """Close; the file stays for the next merge to remove."""
        self._out.abandon()


def write_report(
    directory: Directory,
    stage: str,
    *,
    header: Header,
    round: int,  # noqa: A002
    generation: int,
    tally: Tally,
    problems: Problems,
    digests: dict[str, FileFacts],
    chunks: ChunkLines,
) -> FileFacts:
    """Write report.json into the stage, durably. Raises OSError."""
    identity = not problems.count
    seconds = (
        None if header.started is None or header.ended is None else round_(header.ended - header.started)
    )
    head: dict[str, Any] = {
        "schema": SCHEMA,
        "task_id": header.task_id,
        "uuid": header.uuid,
        "state": header.state if identity else "failed",
        "identity": identity,
        "identity_problems": problems.first,
        "identity_problems_count": problems.count,
        "counts": tally.counts.to_json(),
        "left_out": header.left_out,
        "skipped": header.skipped,
        "unread": header.unread,
        "round": round,
        "generation": generation,
        "tokens": {
            "input": tally.tokens_in,
            "cached": tally.tokens_cached,
            "output": tally.tokens_out,
            "unknown": tally.tokens_unknown,
        },
        "cost": cost_json(tally.used(), header.price, budget=header.budget),
        "durations": {
            "started": header.started,
            "ended": header.ended,
            "seconds": seconds,
            "call_seconds": round_(tally.latencies.total / 1000),
            "latency_ms": tally.latencies.to_json(),
        },
        "attempts": {
            "total": tally.attempts,
            "failed": tally.failed,
            "retries": tally.retries,
            "classes": dict(tally.failures.most_common()),
        },
        "errors": dict(tally.errors.most_common()),
        "backend": header.backend,
        "paths": dict(tally.paths.most_common()),
        "digests": digests,
        "taken_back": tally.taken_back,
        "extras": tally.extras,
        "quarantined": tally.quarantined,
        "torn": tally.torn,
    }
    out = OutputFile(directory, f"{stage}/{REPORT}")
    try:
        text = json.dumps(head, ensure_ascii=False, indent=2)
        out.write(text.removesuffix("\n}").encode() + b',\n  "batches": ')
        out.write(_batches_json(header.batches) + b',\n  "chunks": [')
        chunks.move_to(out)
        out.write(b"\n  ]\n}\n")
        return out.finish()
    finally:
        out.abandon()


def _batches_json(batches: dict[str, Any] | None) -> bytes:
    """The report's `batches`: its `list` comes last, one batch a line."""
    if batches is None:
        return b"null"
    sums = {name: value for name, value in batches.items() if name != "list"}
    text = json.dumps(sums, indent=2).replace("\n", "\n  ").removesuffix("\n  }")
    rows = ",".join("\n      " + json.dumps(row) for row in batches["list"])
    return f'{text},\n    "list": [{rows}\n    ]\n  }}'.encode()


def round_(seconds: float) -> float:
    """Seconds to the millisecond."""
    return float(f"{seconds:.3f}")
