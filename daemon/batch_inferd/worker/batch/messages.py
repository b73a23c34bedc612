"""The daemon's `job` message and the parameters of its kinds.

Ranges are input lines, first and last inclusive, ascending. File names are relative to the task's folder.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from batch_inferd.backends.batch.provider import ResultRef  # noqa: TC001  msgspec reads it when it decodes

Ranges = list[tuple[int, int]]


class Job(msgspec.Struct, frozen=True):
    """What to do, for which task, and where; `params` belong to the kind."""

    job: str
    kind: Literal["pack", "upload", "download", "collect"]
    task: str
    task_id: str
    task_dir: str
    task_dir_id: tuple[int, int]
    plan_version: int
    params: dict[str, Any]


class ChunkRef(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk file as it was cut."""

    chunk: int
    chunk_file: str
    first_line: int
    lines: int


class PackChunk(ChunkRef, frozen=True, kw_only=True):
    """A chunk with open lines: those in `only` (None: all) are packed, those in `exclude` are not."""

    only: Ranges | None = None
    exclude: Ranges = []


class PackParams(msgspec.Struct, frozen=True, kw_only=True):
    """Caps are those to stay under, margins taken off. Packed files are named `prefix`.K.jsonl."""

    round: int
    prefix: str
    max_requests: int
    max_bytes: int
    max_line_bytes: int
    chunks: list[PackChunk]
    max_tokens: int | None = None
    max_ranges: int = 5000  # in the whole result, which must fit into a frame
    max_files: int = 64


class UploadParams(msgspec.Struct, frozen=True, kw_only=True):
    """`reuse`: an earlier try may have got through, look for it first.

    `size` is in bytes as they are sent; the images of a `holed` file are put in on the way.
    """

    file: str
    filename: str
    size: int
    holed: bool = False
    reuse: bool = False


class DownloadParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which results, and where to."""

    ref: ResultRef
    file: str


class ResultFile(msgspec.Struct, frozen=True, kw_only=True):
    """A downloaded file."""

    file: str
    kind: Literal["output", "errors"]


class CollectChunk(ChunkRef, frozen=True, kw_only=True):
    """A chunk with its lines in the submission."""

    ranges: Ranges


class CollectParams(msgspec.Struct, frozen=True, kw_only=True):
    """How a submission ended, and what was downloaded of it. `message` is the service's, on all of it.

    `ours`: we cancelled it. `fallback`: which records go on online: "", "exhausted" (those whose retries
    are used up) or "all" that would be tried again. `problems` are [line of the packed file, code,
    message]. `ms` is the submission's age when it ended. `least`: with results of fewer lines nothing is
    journaled, and the job's result is {"short": how many}.
    """

    submission: str
    name: str
    round: int
    max_retry: int
    files: list[ResultFile]
    ended: Literal["completed", "expired", "cancelled", "failed", "refused"]
    chunks: list[CollectChunk]
    message: str = ""
    ours: bool = False
    fallback: Literal["", "exhausted", "all"] = ""
    ms: int = 0
    least: int = 0
    problems: list[tuple[int | None, str, str]] = []
