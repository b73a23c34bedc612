"""Merging a task's chunks and journals into its outputs, beside `cat` of the same files; both with fsync.

    python benchmarks/merging.py [--json] [--short]

`ratio` compares with `cat` of all that a merge reads, `journals_ratio` with `cat` of the journals alone,
whose bytes are about those of the outputs. Merging hashes what it reads and what it writes; `cat` does not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Any

from kit import records
from kit.places import scratch

from batch_inferd.journal.format import encode_answer
from batch_inferd.journal.index import IndexBuilder
from batch_inferd.journal.names import chunk_folder, chunk_name, journal_name
from batch_inferd.journal.record import output_line
from batch_inferd.journal.writer import JournalWriter
from batch_inferd.merge.chunk import MergeChunk, Sealed
from batch_inferd.merge.merge import End, merge_task
from batch_inferd.merge.report import Header
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWERS = (records.KB // 2, records.KB, 4 * records.KB)
LINES_PER_CHUNK = 200  # the default of the config
LINE_BYTES = records.KB // 2
_LEASE = "a1"
_FLIGHT = 64  # calls at a time: so far from the input's order are the answers in a journal


class Case:
    """A task all of whose records were answered with `answer_bytes`; about `size` bytes of journals."""

    def __init__(self, folder: Path, answer_bytes: int, size: int) -> None:
        for name in ("chunks", "merged"):
            (folder / name).mkdir(parents=True)
        self.folder = folder
        self.chunks, self.merged = Directory(folder / "chunks"), Directory(folder / "merged")
        self.records = (
            max(1, size // (answer_bytes + 250)) // LINES_PER_CHUNK * LINES_PER_CHUNK or LINES_PER_CHUNK
        )
        self.answer_bytes = answer_bytes
        self.rows: list[MergeChunk] = []
        body = records.answer(answer_bytes)
        source = folder / "in.jsonl"
        records.write_input(source, self.records, LINE_BYTES)
        with source.open("rb") as file:
            for first in range(1, self.records + 1, LINES_PER_CHUNK):
                self._chunk(b"".join(file.readline() for _ in range(LINES_PER_CHUNK)), first, body)
        source.unlink()
        os.sync()

    def _chunk(self, data: bytes, first: int, body: bytes) -> None:
        number = len(self.rows) + 1
        self.chunks.mkdir(chunk_folder(number))
        (self.chunks.path / chunk_name(number)).write_bytes(data)
        writer, index = JournalWriter(self.chunks, journal_name(number, _LEASE)), IndexBuilder(0)
        lines = range(first, first + LINES_PER_CHUNK)
        for line in sorted(lines, key=lambda line: (line // _FLIGHT, -line)):
            rec = output_line("batch_1", b'"%d"' % line, 200, "req-1", body)
            encoded = encode_answer(
                line=line, round=0, attempt=1, t=1.76e9, ms=line % 997, tokens_in=220, tokens_out=24,
                path="online", rec=rec,
            )  # fmt: skip
            index.answer(line, writer.size, len(encoded), len(rec), line % 997, 1, 220, 24)
            writer.append(encoded)
        end = index.encode(writer.size, writer.checksum)
        if end is None:
            raise RuntimeError("no index")
        writer.append(end)
        writer.close()
        counts = Sealed(len(lines), len(lines), 0, 0, 0)
        self.rows.append(MergeChunk(number, first, len(lines), len(data), counts))

    def merge(self) -> int:
        """One merge, as the daemon does it; the bytes of the outputs."""
        end = End(Header("t", "uuid", "completed", 0.0, 0.0))
        found = merge_task(
            self.chunks, self.merged, lambda _: self.rows, generation=1, round=0, end=lambda: end
        )
        if not found.identity or found.counts.output != self.records:
            raise RuntimeError(f"the merge is wrong: {found.problems}")
        return sum(facts["bytes"] for facts in found.files.values())

    def cat(self, names: str) -> int:
        """These files into one; its bytes."""
        out = self.folder / "merged" / "all"
        script = f'cat */{names} > "$0"; sync "$0"'
        subprocess.run(["sh", "-c", script, str(out)], cwd=self.chunks.path, check=True)
        return out.stat().st_size

    def clear(self) -> None:
        """Remove what was made, outside of the time."""
        shutil.rmtree(self.merged.path / ".stage-1", ignore_errors=True)
        (self.merged.path / "all").unlink(missing_ok=True)
        os.sync()

    def close(self) -> None:
        self.chunks.close()
        self.merged.close()


def measure(folder: Path, answer_bytes: int, size: int, runs: int) -> dict[str, Any]:
    case = Case(folder, answer_bytes, size)
    works: dict[str, Callable[[], int]] = {
        "merge": case.merge,
        "cat": lambda: case.cat("chunk_*.jsonl"),
        "journals": lambda: case.cat(f"chunk_*.{_LEASE}.jsonl"),
    }
    took: dict[str, list[float]] = {name: [] for name in works}
    made: dict[str, int] = {}
    try:
        for _ in range(runs):
            for name, work in works.items():
                case.clear()
                start = time.perf_counter()
                made[name] = work()
                took[name].append(time.perf_counter() - start)
    finally:
        case.close()
    seconds = {name: statistics.median(found) for name, found in took.items()}
    return {
        "answer_bytes": answer_bytes,
        "records": case.records,
        "read_mb": round(made["cat"] / 1e6),
        "written_mb": round(made["merge"] / 1e6),
        "merge_mb_per_s": round(made["cat"] / seconds["merge"] / 1e6),
        "cat_mb_per_s": round(made["cat"] / seconds["cat"] / 1e6),
        "ratio": round(seconds["cat"] / seconds["merge"], 2),
        "journals_ratio": round(seconds["journals"] / seconds["merge"], 2),
        "us_per_record": round(seconds["merge"] / case.records * 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--short", action="store_true", help="small files: nothing is shown but that it runs")
    options = parser.parse_args()
    size, runs = (2 * records.MB, 1) if options.short else (300 * records.MB, 5)
    cases = []
    for answer_bytes in ANSWERS:
        with scratch("merging") as folder:
            cases.append(measure(folder, answer_bytes, size, runs))
    found = {
        "lines_per_chunk": LINES_PER_CHUNK,
        "line_bytes": LINE_BYTES,
        "runs": runs,
        "cases": cases,
        "ratio": min(case["ratio"] for case in cases),
    }
    if options.json:
        print(json.dumps(found))
        return
    for case in cases:
        print(
            f"answers of {case['answer_bytes']} bytes: merging reads {case['merge_mb_per_s']} MB/s, cat "
            f"{case['cat_mb_per_s']} MB/s, ratio {case['ratio']} ({case['journals_ratio']} with cat of the "
            f"journals); {case['us_per_record']} us a record"
        )


if __name__ == "__main__":
    main()
