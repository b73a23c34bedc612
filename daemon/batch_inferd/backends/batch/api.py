"""What is known of a service's Batch API, as data: every number of it can be overridden by a config."""

from __future__ import annotations

from typing import Any

import msgspec

URLS = {
    "chat": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
}

FILES_QUERY = {"purpose": "batch", "order": "desc"}

# Codes that mean: the queue of the account is full. Later there is room; nothing is wrong with the batch.
WAIT_CODES = (
    "token_limit_exceeded",
    "enqueued_token_limit_exceeded",
    "enqueued_tokens_exceeded",
    "batch_queue_full",
    "batch_limit_exceeded",
    "quota_exceeded_for_batches",
    "too_many_batches",
)


class BatchApi(msgspec.Struct, frozen=True, kw_only=True):
    """A Batch API. Sizes in bytes are the service's own; packing stays at 95 % of them."""

    adapter: str = "openai"
    urls: dict[str, str] = msgspec.field(default_factory=URLS.copy)  # endpoint -> url of a line; no others
    model_urls: dict[str, str] = {}  # model -> url, before `urls`
    files_path: str = "/files"  # below base_url, as the next two
    upload_path: str = "/files"
    batches_path: str = "/batches"
    models_path: str | None = "/models"  # None: the list says nothing of what can be used
    purpose: str = "batch"  # of the upload
    upload_extra: dict[str, str] = {}  # further form fields of it; "{filename}" stands for the file's name
    files_query: dict[str, str] = msgspec.field(default_factory=FILES_QUERY.copy)  # of the list of files
    bare_lines: bool = False  # a line has custom_id and body only
    min_id: int = 0  # least length of a custom_id
    max_requests: int = 50_000
    max_requests_of: dict[str, int] = {}  # endpoint -> less than that
    min_requests: int = 0
    max_bytes: int = 200_000_000
    max_line_bytes: int = 6_000_000
    max_in_flight: int | None = 100  # batches at a time
    creates_per_hour: int | None = None
    enqueued_tokens: int | None = None  # reserved for all of the account
    windows: tuple[str, ...] = ("24h",)  # completion windows; the first is the default
    window_max_h: int = 24  # with more than one window, all between the first and this are allowed
    metadata: bool = True  # a batch's metadata comes back
    title_key: str = "title"  # the metadata's name for what people see
    lists: bool = True  # there is a list call, newest first
    settle_s: float = 600.0  # so long a create that was not answered is looked for
    poll_first_s: float = 5.0
    poll_max_s: float = 60.0
    poll_min_s: float = 1.0  # between two looks at one batch
    cancel_s: float = 1800.0  # a cancelled batch's last state is waited for
    retention_s: float = 30 * 86400.0  # results can be fetched
    delete_input: bool = True  # our upload is deleted once the batch is collected
    wait_codes: tuple[str, ...] = WAIT_CODES
    create_extra: dict[str, Any] = {}  # further fields of the create call
