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
LOG_FORMATS = ("text", "json")
FORMATS = ("auto", "jsonl", "chat_images", "csv", "tsv", "parquet", "folder", "s3", "topics")


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


class S3(msgspec.Struct, frozen=True):
    """Object storage: strings are as written, `${NAME}` is not replaced here; `repr` shows no secret."""

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    anonymous: bool = False

    def __repr__(self) -> str:
        return f"S3(endpoint={self.endpoint!r}, region={self.region!r}, …)"


class Input(msgspec.Struct, frozen=True):
    """Reading. A line of more than `max_line_bytes` is an error record.

    What follows says how records are made of what is no JSON Lines file. Templates (`prompt`, `system`)
    name columns in braces. Rows are counted from 0, `end_row` is not included. Relative paths count
    from the config's folder. `done`: an output whose ids are left out.
    """

    max_line_bytes: int = 64 * 2**20
    format: Literal["auto", "jsonl", "chat_images", "csv", "tsv", "parquet", "folder", "s3", "topics"] = (
        "auto"
    )
    prompt: str | None = None
    system: str | None = None
    id_column: str | None = None
    image_columns: list[str] = []
    image_folder: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    topics: list[str] = []
    topics_file: str | None = None
    iterations: int = 1
    start_row: int = 0
    end_row: int | None = None
    patterns: list[str] = []
    done: str | None = None
    s3: S3 = S3()


class Images(msgspec.Struct, frozen=True):
    """Images that input lines refer to: which are taken. `max_side`: a longer one is scaled down to it."""

    formats: tuple[str, ...] = ("jpeg", "png", "webp", "gif")
    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int | None = None
    fetch_urls: bool = False


class Output(msgspec.Struct, frozen=True):
    """Recording: answers reach the disk within a second ("normal"), or each before it counts ("strict").

    `formats`: exports that are written beside the outputs, see `batch_infer.protocol.exports`. `schema`: the
    file of a JSON Schema that answers have to follow, relative to the config's folder.
    """

    durability: Literal["normal", "strict"] = "normal"
    formats: list[str] = []
    schema: str | None = None


class Prices(msgspec.Struct, frozen=True):
    """Prices of a million tokens, where they are to differ from those that are known, or none are.

    `input` and `output` stand together. `cached_input` is as `input` unless told. `batch_discount` is the
    share that answers of batches cost less, from 0 to 1.
    """

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    batch_discount: float | None = None
    currency: str | None = None


class Budget(msgspec.Struct, frozen=True):
    """What a task may cost at most, in the currency of its prices; `usd: N` is short for N in USD."""

    amount: float
    currency: str = "USD"


class Logging(msgspec.Struct, frozen=True):
    """The task's log: the least level that is written, and for how many days files stay.

    `dir`: the folder of the file, relative to the config's; None is `logs` of the workspace. `format`: what
    a line is.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    keep_days: int = 30
    dir: str | None = None
    format: Literal["text", "json"] = "text"


class Daemon(msgspec.Struct, frozen=True):
    """The daemon: seconds without an unfinished task after which it ends by itself."""

    idle_exit: float = 1800.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole config. `source` says where its values stand; it is no part of the snapshot.

    `priority`: each step up doubles the task's share of an account that several tasks use. `images` is
    None where the config has no such section: then the lines of a JSON Lines file are sent as they are.
    `budget`: None is no limit.
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
    images: Images | None = None
    output: Output = Output()
    prices: Prices = Prices()
    budget: Budget | None = None
    logging: Logging = Logging()
    daemon: Daemon = Daemon()
    source: Source = Source()
