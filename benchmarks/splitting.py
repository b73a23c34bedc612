"""Cutting an input into chunk files, beside `split -l` on the same file; both with fsync.

python benchmarks/splitting.py [--json] [--short]
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

from batch_inferd.intake import cutter
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LINES = (200, 1000)  # a chunk: the default of the config, and what suits large inputs
LINE_BYTES = records.KB
_AT_A_TIME = 32  # chunks, as the daemon cuts them


def cut(source: Path, folder: Path, lines: int) -> None:
    """All chunks of the file, each durable."""
    folder.mkdir()
    directory, fd = Directory(folder), os.open(source, os.O_RDONLY)
    try:
        size, at = os.fstat(fd).st_size, cutter.START
        while not cutter.is_end(at, size, 0):
            _, at = cutter.cut(directory, fd, size, at, per_chunk=lines, limit=0, count=_AT_A_TIME)
    finally:
        os.close(fd)
        directory.close()


def split(source: Path, folder: Path, lines: int) -> None:
    """The same files by `split -l`, then synced."""
    folder.mkdir()
    script = 'split -a 6 -l "$0" "$1" x && sync x*'
    subprocess.run(["sh", "-c", script, str(lines), str(source)], cwd=folder, check=True)


def timed(work: Callable[[Path, Path, int], None], source: Path, folder: Path, lines: int) -> float:
    """Seconds; what was made is removed again, outside of the time."""
    os.sync()
    start = time.perf_counter()
    work(source, folder, lines)
    took = time.perf_counter() - start
    shutil.rmtree(folder)
    return took


def measure(folder: Path, source: Path, lines: int, runs: int) -> dict[str, Any]:
    ours, reference = [], []
    for _ in range(runs):
        ours.append(timed(cut, source, folder / "cut", lines))
        reference.append(timed(split, source, folder / "split", lines))
    size = source.stat().st_size
    cutting, splitting = statistics.median(ours), statistics.median(reference)
    return {
        "lines_per_chunk": lines,
        "cut_mb_per_s": round(size / cutting / 1e6),
        "split_mb_per_s": round(size / splitting / 1e6),
        "ratio": round(splitting / cutting, 2),
        "us_per_line": round(cutting / (size / LINE_BYTES) * 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--short", action="store_true", help="a small file: nothing is shown but that it runs"
    )
    options = parser.parse_args()
    size, runs = (4 * records.MB, 1) if options.short else (500 * records.MB, 5)
    with scratch("splitting") as folder:
        source = folder / "in.jsonl"
        records.write_input(source, size // LINE_BYTES, LINE_BYTES)
        cases = [measure(folder, source, lines, runs) for lines in LINES]
    found = {
        "input_mb": round(size / 1e6),
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
            f"chunks of {case['lines_per_chunk']} lines: cutting {case['cut_mb_per_s']} MB/s, split "
            f"{case['split_mb_per_s']} MB/s, ratio {case['ratio']}; {case['us_per_line']} us a line"
        )


if __name__ == "__main__":
    main()
