"""Where the benchmarks keep what they make: `.bench/` in the project's folder, which git does not see."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).resolve().parents[1]
PROJECT = BENCHMARKS.parent
BENCH = PROJECT / ".bench"
RESULTS = BENCH / "results.json"


def bench() -> Path:
    """The folder `.bench/`, made when it is not there. It ignores itself, so that git need not be told."""
    BENCH.mkdir(exist_ok=True)
    ignored = BENCH / ".gitignore"
    if not ignored.exists():
        ignored.write_text("*\n")
    return BENCH


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A new folder on the project's own disk, not on a /tmp that may be memory; removed at the end.

    SIGTERM ends the program as Ctrl-C does: with its processes and its folders.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=bench()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
