"""A plan and a provider for a profile of the OpenAI family, pointed at a server on this machine."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import msgspec

from batch_inferd.backends.batch.provider import BatchOrder, Upload
from batch_inferd.backends.batch.registry import make_provider
from batch_inferd.backends.plan import BatchPlan, RequestPlan, Retry, Timeouts
from batch_inferd.seams.clock import SystemClock
from batch_inferd.services.builtin import GENERIC, PROFILES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from batch_inferd.backends.batch.provider import BatchProvider
    from batch_inferd.seams.clock import Clock
    from batch_inferd.services.profile import Profile

TOKEN = "bi-token-1"
SECRET = "sk-very-secret-key-1234567890"
FAMILY = [p for p in (*PROFILES.values(), GENERIC) if p.batch is not None and p.batch.adapter == "openai"]
BY_NAME = {profile.name: profile for profile in FAMILY}


def make_plan(
    base_url: str, profile: Profile = GENERIC, api: dict[str, Any] | None = None, **changes: Any
) -> RequestPlan:
    assert profile.batch is not None
    key = {"api-key": SECRET} if profile.auth == "api-key" else {"Authorization": f"Bearer {SECRET}"}
    batch = BatchPlan(
        msgspec.structs.replace(profile.batch, **(api or {})), profile.batch.windows[0], "task-1"
    )
    plan = RequestPlan(
        task="uuid-1",
        version=1,
        account="acc-1",
        base_url=base_url,
        paths=dict(profile.paths),
        query={},
        headers=key,
        proxy=None,
        defaults={"chat": {"model": "test-model"}},
        messages_key="messages",
        omit=[],
        rename={},
        batch_id="batch_kit",
        credit_codes=list(profile.credit_codes),
        model_codes=list(profile.model_codes),
        timeouts=Timeouts(connect=5.0, read=10.0, total=30.0),
        retry=Retry(),
        max_line_bytes=1 << 20,
        max_response_bytes=1 << 20,
        durability="normal",
        batch=batch,
    )
    return msgspec.structs.replace(plan, **changes)


@contextlib.asynccontextmanager
async def provider_of(plan: RequestPlan, clock: Clock | None = None) -> AsyncIterator[BatchProvider]:
    provider = make_provider(plan, clock or SystemClock())
    try:
        yield provider
    finally:
        await provider.close()


def body(text: str, **fields: Any) -> bytes:
    return json.dumps(
        {"model": "test-model", "messages": [{"role": "user", "content": text}], **fields}
    ).encode()


def pack(provider: BatchProvider, path: Path, texts: list[str], url: str, token: str) -> Upload:
    """A packed file of one line a text, ids from r1."""
    lines = [provider.encode_line(b"r%d" % n, url, body(text)) for n, text in enumerate(texts, 1)]
    path.write_bytes(b"".join(lines))
    return Upload(path, f"{token}.jsonl", path.stat().st_size)


def order(input_ref: str | None = "file-1", token: str = TOKEN, **changes: Any) -> BatchOrder:
    made = BatchOrder(
        token=token,
        input_ref=input_ref,
        requests_path=None,
        url="/v1/chat/completions",
        model="test-model",
        window="24h",
        title="task-1",
    )
    return msgspec.structs.replace(made, **changes)


def batch(**fields: Any) -> dict[str, Any]:
    """A batch object as OpenAI's."""
    return {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-1",
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": 1_790_000_000,
        "expires_at": 1_790_086_400,
        "request_counts": {"total": 2, "completed": 0, "failed": 0},
        "metadata": {"batch_infer_token": TOKEN},
    } | fields
