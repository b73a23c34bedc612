"""What is worth knowing of a service before a large task: the caps, the window, how long results stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.doctor.check import Check

if TYPE_CHECKING:
    from batch_inferd.backends.batch.api import BatchApi
    from batch_inferd.services.resolve import Resolved

_DAY_S = 86_400


def facts(resolved: Resolved) -> list[Check]:
    """`backend` and its `limits`; for batches `window` and `retention` too. All are known, none is tried."""
    params = {"backend": resolved.backend, "reason": resolved.backend_reason}
    checks = [Check("backend", True, Text("records go out as {backend}: {reason}", params))]
    if resolved.batch is None:
        return [*checks, _calls(resolved)]
    found = _batches(resolved.batch, resolved.window or "")
    if resolved.batch.enqueued_tokens is None and not resolved.profile.embedded:
        text = Text("how many input tokens may wait in batches is not known; a full queue is waited for")
        found.append(Check("limits", None, text, Text("limits.enqueued_tokens sets it, if you know it")))
    return [*checks, *found]


def _calls(resolved: Resolved) -> Check:
    params: dict[str, Any] = {"most": resolved.max_concurrency, "rpm": resolved.config.limits.rpm}
    if params["rpm"] is None:
        return Check("limits", True, Text("at most {most} calls at a time, and any number a minute", params))
    return Check("limits", True, Text("at most {most} calls at a time, and {rpm} a minute", params))


def _batches(api: BatchApi, window: str) -> list[Check]:
    size = Text(
        "a batch has at most {requests} requests and {megabytes} MB, a line at most {kilobytes} KB",
        {
            "requests": api.max_requests,
            "megabytes": f"{api.max_bytes / 1e6:.15g}",
            "kilobytes": f"{api.max_line_bytes / 1e3:.15g}",
        },
    )
    checks = [Check("limits", True, size)]
    at_once = {"batches": api.max_in_flight, "tokens": api.enqueued_tokens, "creates": api.creates_per_hour}
    if api.max_in_flight is not None:
        checks.append(Check("limits", True, Text("at most {batches} batches at a time", at_once)))
    if api.creates_per_hour is not None:
        checks.append(Check("limits", True, Text("at most {creates} new batches an hour", at_once)))
    if api.enqueued_tokens is not None:
        checks.append(Check("limits", True, Text("at most {tokens} input tokens in all batches", at_once)))
    checks.append(Check("window", True, Text("a batch has {window} to complete", {"window": window})))
    days = {"days": f"{api.retention_s / _DAY_S:.3g}"}
    text = Text("results can be fetched for {days} days; they are fetched as soon as a batch ends", days)
    return [*checks, Check("retention", True, text)]
