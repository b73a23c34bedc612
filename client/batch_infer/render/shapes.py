"""The shapes that the daemon sends, as far as they are shown. Unknown keys are ignored."""

from __future__ import annotations

from typing import Any, TypedDict

# Records of a task or a chunk by how they ended: input, output, error, missing, pending, blank.
Counts = dict[str, int]


class Reason(TypedDict):
    """Why a task is paused or failed; `text` is `Text.to_wire()`."""

    code: str
    text: Any


class Waiting(TypedDict):
    """What a task waits for. Times are seconds since 1970."""

    code: str
    text: Any
    since: float | None
    next_try: float | None


class Summary(TypedDict, total=False):
    """One task. Times are seconds since 1970, bytes are bytes of the input."""

    schema: int
    task_id: str
    gone: bool  # its folder was removed; then nothing else is there
    state: str
    reason: Reason | None
    counts: Counts
    retries: int
    rate_per_s: float
    eta_s: float | None
    cost: float | None
    backend: str
    uuid: str
    round: int
    created: float
    started: float | None
    ended: float | None
    share: float
    expected: int  # records of the whole input, a guess until input_complete
    input_complete: bool
    left_out: int
    left_out_exact: bool
    unread: dict[str, int] | None  # where a cancelled task stopped reading: line (from 1) and byte
    cancelling: bool
    merge_share: float
    chunk_states: dict[str, int]
    in_flight: int
    concurrency: int
    waiting: list[Waiting]
    tokens: dict[str, int]
    bytes: dict[str, int]
    quota: dict[str, Any]
    identity: bool | None
    outputs: str
    input_path: str
    model: str
    service: str
    log: str


class Chunk(TypedDict, total=False):
    """One chunk of a task; `chunk` is its number from 1."""

    chunk: int
    state: str
    counts: Counts
    retries: int


class Worker(TypedDict, total=False):
    """A process of the daemon: CPU in percent of one core, memory in bytes."""

    pid: int
    cpu: float
    rss: int


class Load(TypedDict, total=False):
    """What the daemon and its workers use."""

    cpu: float
    rss: int
    workers: list[Worker]
