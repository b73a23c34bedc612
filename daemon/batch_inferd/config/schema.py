"""The config's sections, with the defaults. `docs/configuration.md` explains every key."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from batch_inferd.config.problems import Source

MODES = ("asyncio", "threading", "multiprocessing")
BACKENDS = ("auto", "batch", "online")
DURABILITIES = ("normal", "strict")
FALLBACKS = ("off", "online")
LEVELS = ("debug", "info", "warning", "error")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Which service, which model, and what goes into each request.

    Strings are as written: `${NAME}` is not replaced here. `password` is None when the config has
    none; its text may be a secret, so it is kept out of `repr`.
    """

    domain: str
    max_tokens: int
    name: str | None = None
    password: str | None = None
    messages_key: str = "messages"
    temperature: float | None = None
    enable_thinking: bool | None = None
    extra_body: dict[str, Any] = {}
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Model(domain={self.domain!r}, name={self.name!r}, …)"


class Timeout(msgspec.Struct, frozen=True):
    """Seconds: for connecting, between two reads, and for a whole call."""

    connect: float = 10.0
    read: float = 600.0
    total: float = 1800.0


class Execution(msgspec.Struct, frozen=True):
    """How calls are made: `processes` workers (threads in threading mode), `concurrency` calls at first."""

    mode: Literal["asyncio", "threading", "multiprocessing"] = "asyncio"
    processes: int = 1
    concurrency: int = 64
    timeout: Timeout = Timeout()


class Limits(msgspec.Struct, frozen=True):
    """The account's limits: requests and tokens a minute (None: unlimited), calls at a time.

    `bytes_in_flight`: bytes of the calls that are under way, requests and answers, of all workers together.
    `max_batches` (upstream batches at a time) and `enqueued_tokens` (input tokens in them): None is
    the service's own limit.
    """

    rpm: int | None = None
    tpm: int | None = None
    max_concurrency: int = 1024
    bytes_in_flight: int = 64 * 2**20
    max_batches: int | None = None
    enqueued_tokens: int | None = None


class Poll(msgspec.Struct, frozen=True):
    """Seconds between two looks at a batch: the first, and what they grow to. None: the service's own."""

    first: float | None = None
    max: float | None = None


class Batch(msgspec.Struct, frozen=True):
    """Upstream batches. Times in seconds, sizes in bytes; None is what the service's profile has.

    `completion_window` is as it is sent: whole hours or days, such as "24h". `fallback` and `deadline`:
    whether, and at what age of a batch, its records go on as online calls. `cancel_wait`: how long a
    cancelled batch is waited for. `settle`: how long an unanswered create is looked for.
    """

    completion_window: str | None = None
    fallback: Literal["off", "online"] = "off"
    deadline: float = 72_000.0
    cancel_wait: float | None = None
    settle: float | None = None
    poll: Poll = Poll()
    max_requests: int | None = None
    max_bytes: int | None = None
    max_line_bytes: int | None = None


class Input(msgspec.Struct, frozen=True):
    """Reading: a line of more bytes is an error record."""

    max_line_bytes: int = 64 * 2**20


class Output(msgspec.Struct, frozen=True):
    """Recording: answers reach the disk within a second ("normal"), or each before it counts ("strict")."""

    durability: Literal["normal", "strict"] = "normal"


class Logging(msgspec.Struct, frozen=True):
    """The task's log: the least level that is written, and for how many days files stay."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    keep_days: int = 30


class Daemon(msgspec.Struct, frozen=True):
    """The daemon: seconds without an unfinished task after which it ends by itself."""

    idle_exit: float = 1800.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole config. `source` says where its values stand; it is no part of the snapshot.

    `priority`: each step up doubles the task's share of an account that several tasks use.
    """

    model: Model
    test_lines: int = 0
    lines_per_chunk: int = 200
    max_retry_count: int = 3
    backend: Literal["auto", "batch", "online"] = "auto"
    priority: int = 0
    execution: Execution = Execution()
    limits: Limits = Limits()
    batch: Batch = Batch()
    input: Input = Input()
    output: Output = Output()
    logging: Logging = Logging()
    daemon: Daemon = Daemon()
    source: Source = Source()
