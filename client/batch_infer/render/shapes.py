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


class UpstreamCounts(TypedDict, total=False):
    """Requests of a batch as the provider counts them; None where it does not tell."""

    total: int | None
    completed: int | None
    failed: int | None


class Batches(TypedDict, total=False):
    """All submissions of a task in a few figures; the ages are seconds."""

    live: int  # at the provider, not at their end
    waiting: int  # not yet there
    collecting: int  # at their end, and their results not here yet
    collected: int
    refused: int
    dropped: int  # never created
    states: dict[str, int]  # the live ones by the provider's word
    requests: UpstreamCounts  # of the live ones
    enqueued_tokens: int
    next_look: float | None  # seconds since 1970
    oldest_s: float | None  # of the live ones
    left_s: float | None  # the least of their completion windows


class Execution(TypedDict):
    """How a task's calls are made, and its own limits: None is no limit. `bytes_in_flight` in bytes."""

    mode: str
    processes: int
    concurrency: int  # calls at a time at first
    max_concurrency: int
    priority: int
    rpm: int | None
    tpm: int | None
    bytes_in_flight: int


class Cost(TypedDict, total=False):
    """What a task has cost, in `currency`; None is what is not known."""

    currency: str
    spent: float | None
    input: float | None  # of it
    output: float | None
    batch: float | None  # of it: what batches brought
    online: float | None
    unknown_records: int  # answers without usage: they are in none of these sums
    per_record: float | None
    forecast: float | None  # of the whole task, while it is not at its end
    budget: float | None  # what it may cost at most
    committed: float | None  # of it: spent, or may be
    prices: dict[str, Any]


class Range(TypedDict):
    """What a task may cost; `most`: every answer is as long as it may be. `input` is the input alone."""

    expected: float
    most: float
    input: float


class Estimate(TypedDict):
    """What a task may come to; see docs/costs.md."""

    input: str
    service: str
    model: str
    backend: str
    records: int
    bytes: int
    exact: bool
    read: int
    tokens: dict[str, Any]
    batches: int | None
    duration_s: dict[str, float | None]
    currency: str | None
    cost: dict[str, Range | None]
    prices: dict[str, Any] | None
    notes: list[Any]


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
    cost: Cost | None
    backend: str
    uuid: str
    round: int
    created: float
    started: float | None
    ended: float | None
    share: float
    expected: int  # records of the whole input
    expected_exact: bool  # no guess
    input_complete: bool
    left_out: int
    left_out_exact: bool
    unread: dict[str, int] | None  # where a cancelled task stopped reading: line (from 1) and byte
    cancelling: bool
    merge_share: float
    chunk_states: dict[str, int]
    in_flight: int
    concurrency: int
    execution: Execution
    waiting: list[Waiting]
    tokens: dict[str, int]
    bytes: dict[str, int]
    quota: dict[str, Any]
    daemons: int  # of this user that share the account's limits now, this one included
    identity: bool | None
    outputs: str
    input_path: str
    preparing: dict[str, int | None] | None  # of a source whose records are being written: see docs/cli.md
    model: str
    service: str
    log: str
    batches: Batches | None  # None: the task makes online calls only
    paths: dict[str, int]  # answers by the way that they took: batch, online


class Chunk(TypedDict, total=False):
    """One chunk of a task; `chunk` is its number from 1."""

    chunk: int
    state: str
    counts: Counts
    retries: int
    cost: float | None


class Submission(TypedDict, total=False):
    """One batch of a task, from packing to its collected results. Times are seconds since 1970."""

    submission: int  # our number, from 1
    batch: str | None  # the provider's id
    state: str  # ours; see `batch_text`
    upstream_state: str | None  # the provider's word
    counts: UpstreamCounts
    requests: int
    bytes: int
    tokens: int  # an estimate of the input's
    chunks: list[int]  # the first ones
    chunk_count: int
    created: float | None
    age_s: float | None
    expires: float | None
    left_s: float | None  # of the completion window
    ended: float | None
    next_look: float | None
    waiting: Waiting | None
    results: dict[str, int] | None  # answered, failed, retried, missing, unknown, duplicate, unreadable
    round: int
    url: str
    model: str
    cost: float | None


class Worker(TypedDict, total=False):
    """A process of the daemon: CPU in percent of one core, memory in bytes, traffic in bytes a second."""

    pid: int
    cpu: float
    rss: int
    sent_per_s: int
    received_per_s: int


class Check(TypedDict, total=False):
    """One thing that -doctor looked at; `ok` None: it could not be told. The texts are `Text.to_wire()`."""

    name: str
    ok: bool | None
    text: Any
    hint: Any


class Load(TypedDict, total=False):
    """What the daemon and its workers use."""

    cpu: float
    rss: int
    workers: list[Worker]
