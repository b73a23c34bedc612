"""What a worker must know to execute a task's records: resolved once, sent over the worker's pipe."""

from __future__ import annotations

from typing import Any

import msgspec

from batch_inferd.backends.batch.api import BatchApi  # noqa: TC001  msgspec reads it when it decodes
from batch_inferd.images.plan import ImagePlan  # noqa: TC001  as above
from batch_inferd.money.budget import BudgetPlan  # noqa: TC001  as above


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds a phase: connecting, waiting for bytes, and the whole call."""

    connect: float = 10.0
    read: float = 600.0
    total: float = 1800.0


class Retry(msgspec.Struct, frozen=True):
    """How often, and how long between. Backoff doubles from `base_s` to `cap_s`, with full jitter."""

    max_count: int = 3
    base_s: float = 0.5
    cap_s: float = 60.0


class BatchPlan(msgspec.Struct, frozen=True):
    """How a task's records become upstream batches: the service's Batch API, with what the config changes."""

    api: BatchApi
    window: str  # the completion window that each create asks for, such as "24h"
    title: str  # for people who look at the service's own list of batches: the task-id


class RequestPlan(msgspec.Struct, frozen=True):
    """Everything resolved: this object holds secrets, and is never logged, stored or shown."""

    task: str  # the task's UUID
    version: int  # grows when `-resume -config` mends the task
    account: str  # the account's fingerprint: the key of all limits
    base_url: str  # no trailing slash, such as https://api.openai.com/v1
    paths: dict[str, str]  # endpoint -> path below base_url: {"chat": "/chat/completions", "embeddings": …}
    query: dict[str, str]  # added to every URL (Azure's api-version)
    headers: dict[str, str]  # with the authorization
    proxy: str | None  # already decided for base_url: None for loopback and no_proxy hosts
    defaults: dict[str, dict[str, Any]]  # endpoint -> body fields of the config; a record's own fields win
    messages_key: str  # the field of an input line that holds the conversation
    omit: list[str]  # body fields that the service refuses, from wherever they come
    rename: dict[str, str]  # body field -> the service's name for it
    batch_id: str  # the `id` of every output line
    credit_codes: list[str]  # error codes or words that mean: no credit, quota spent
    model_codes: list[str]  # error codes that mean: no such model
    timeouts: Timeouts
    retry: Retry
    max_line_bytes: int
    max_response_bytes: int
    durability: str  # "normal": synced within a second; "strict": each answer
    batch: BatchPlan | None = None  # None: every record is an online call
    images: ImagePlan | None = None  # None: references of images are sent as they stand
    budget: BudgetPlan | None = None  # None: what calls cost is not looked at before they are sent
    priority: int = 0  # -5 to 5; each step up doubles the task's share of its account
