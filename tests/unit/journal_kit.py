"""A task's folder built by hand: chunk files, journals as bytes, and the folder of its outputs."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

from batch_inferd.journal.format import (
    Answer,
    Attempt,
    Failure,
    decode,
    encode_answer,
    encode_attempt,
    encode_error,
    encode_missing,
)
from batch_inferd.journal.index import IndexBuilder
from batch_inferd.journal.names import chunk_folder, chunk_name, journal_name
from batch_inferd.journal.record import error_line, output_line
from batch_inferd.merge.chunk import MergeChunk, Sealed
from batch_inferd.merge.merge import End, MergeResult, merge_task
from batch_inferd.merge.report import Header
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from pathlib import Path

T = 1_760_000_000.0


def answer(
    line: int, *, round: int = 0, t: float = T, attempt: int = 1, body: bytes = b'{"n":1}', **more
) -> bytes:
    rec = output_line("batch_k", b'"%d"' % line, 200, "req", body)
    fields = {"ms": 532, "tokens_in": 3, "tokens_out": 4, "path": "online"} | more
    return encode_answer(line=line, round=round, attempt=attempt, t=t, rec=rec, **fields)


def error(line: int, *, round: int = 0, t: float = T, failure: str = "bad_request", **more) -> bytes:
    rec = error_line("batch_k", b'"%d"' % line, code=failure, message="no", attempts=1, line=line, **more)
    return encode_error(line=line, round=round, attempt=1, t=t, failure=failure, rec=rec)


def missing(line: int, *, round: int = 0, t: float = T) -> bytes:
    return encode_missing(line=line, round=round, attempt=4, t=t)


def attempt(line: int, number: int = 1, *, round: int = 0, t: float = T, **more) -> bytes:
    fields = {
        "failure": "server",
        "status": 500,
        "message": "boom",
        "not_before": t + 1,
        "charged": True,
        "strikes": 0,
        "outages": 0,
    } | more
    return encode_attempt(line=line, round=round, attempt=number, t=t, **fields)


def indexed(lines: list[bytes], round: int = 0) -> bytes:
    """A journal of these lines with the index that the worker would end it with, if it had one."""
    builder, at = IndexBuilder(round), 0
    for line in lines:
        match decode(line):
            case Answer() as found:
                builder.answer(
                    found.line, at, len(line), len(found.rec), found.ms, found.attempt,
                    found.tokens_in, found.tokens_out,
                )  # fmt: skip
            case Failure() as found:
                builder.error(found.line, at, len(line), len(found.rec), found.attempt, found.failure)
            case Attempt() as found:
                builder.attempt(found.failure, found.charged)
            case found:
                builder.missing(found.line, found.attempt)
        at += len(line)
    data = b"".join(lines)
    return data + (builder.encode(at, zlib.crc32(data)) or b"")


class Task:
    """chunks/t and merged/t below a folder, with what merge asks of the database in `rows`."""

    def __init__(self, root: Path) -> None:
        (root / "chunks" / "t").mkdir(parents=True)
        (root / "merged" / "t").mkdir(parents=True)
        self.directory = Directory(root / "chunks" / "t")
        self.merged = Directory(root / "merged" / "t")
        self.rows: list[MergeChunk] = []
        self._line = 1

    def close(self) -> None:
        self.directory.close()
        self.merged.close()

    def chunk(self, data: bytes, sealed: Sealed | None = None) -> int:
        """Add a chunk file; returns its number."""
        number = len(self.rows) + 1
        lines = data.split(b"\n")
        count = len(lines) - (lines[-1] == b"")
        self.directory.mkdir(chunk_folder(number))
        (self.directory.path / chunk_name(number)).write_bytes(data)
        self.rows.append(MergeChunk(number, self._line, count, len(data), sealed))
        self._line += count
        return number

    def journal(self, chunk: int, lease: str, data: bytes) -> Path:
        """Write a whole journal; returns its path."""
        path = self.directory.path / journal_name(chunk, lease)
        path.write_bytes(data)
        return path

    def simple(self, records: int, per_chunk: int = 3) -> None:
        """Chunks with `records` records, all answered."""
        for first in range(1, records + 1, per_chunk):
            numbers = range(first, min(first + per_chunk, records + 1))
            chunk = self.chunk(b"".join(b'{"messages":[],"n":%d}\n' % n for n in numbers))
            self.journal(chunk, "aa", b"".join(answer(n) for n in reversed(numbers)))

    def merge(
        self,
        generation: int = 1,
        round: int = 0,
        state: str = "completed",
        input_bytes: int | None = None,
        **more,
    ) -> MergeResult:
        header = Header("t", "uuid", state, T, T + 60, **more.pop("header", {}))
        return merge_task(
            self.directory,
            self.merged,
            lambda _: iter(self.rows),
            generation=generation,
            round=round,
            end=lambda: End(header, input_bytes),
            cancelled=state == "cancelled",
            price=header.price,
            **more,
        )

    def staged(self, name: str, generation: int = 1) -> bytes:
        return (self.merged.path / f".stage-{generation}" / name).read_bytes()

    def ids(self, name: str, generation: int = 1) -> list[str]:
        return [json.loads(line)["custom_id"] for line in self.staged(name, generation).splitlines()]

    def report(self, generation: int = 1) -> dict:
        return json.loads(self.staged("report.json", generation))


def what(result: MergeResult) -> list[tuple]:
    return [(problem["chunk"], problem["line"], problem["what"]) for problem in result.problems]


__all__ = ["T", "Task", "answer", "attempt", "error", "indexed", "missing", "what"]
