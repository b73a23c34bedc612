"""A batch object of the OpenAI family, whatever its dialect, as a `BatchStatus`.

Dialects: times in seconds, in milliseconds or as ISO text; states in capitals or other words; null or
missing counts, or counts beside the others; `errors` as a list, an object or a text; ids that are "".
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from batch_inferd.backends.batch.errors import BatchProblem
from batch_inferd.backends.batch.provider import TOKEN_KEY, BatchState, BatchStatus, ResultRef

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PROBLEMS = 50_000

_STATES = {
    BatchState.VALIDATING: ("validating", "preparing", "preparing_input"),
    BatchState.QUEUED: ("queued", "enqueued", "pending", "created", "submitted", "scheduled", "waiting"),
    BatchState.RUNNING: ("in_progress", "inprogress", "progress", "running", "processing"),
    BatchState.FINALIZING: ("finalizing", "finalising", "aggregating"),
    BatchState.CANCELLING: ("cancelling", "canceling", "cancellation_requested", "stopping"),
    BatchState.COMPLETED: (
        "completed", "complete", "succeeded", "success", "finished", "done", "ended",
        "partially_completed", "partially_succeeded", "partial",
    ),
    BatchState.FAILED: ("failed", "failure", "error", "errored", "invalid"),
    BatchState.EXPIRED: ("expired", "timeout", "timed_out", "timeout_exceeded"),
    BatchState.CANCELLED: ("cancelled", "canceled", "stopped", "aborted"),
}  # fmt: skip
_STATE_OF = {word: state for state, words in _STATES.items() for word in words}
_END_FIELD = {
    BatchState.COMPLETED: "completed_at",
    BatchState.FAILED: "failed_at",
    BatchState.EXPIRED: "expired_at",
    BatchState.CANCELLED: "cancelled_at",
}
_TELLING = ("input_file_id", "request_counts", "completion_window", "output_file_id")
_MILLISECONDS = 1e11  # as seconds this is the year 5138


def read_status(
    data: dict[str, Any], clean: Callable[[str], str], batch_id: str | None = None
) -> BatchStatus | None:
    """The status that a reply's object tells; None when it is no batch.

    `clean` takes secrets out of texts; `batch_id` is the id where the object names none.
    """
    data = _unwrapped(data)
    found = text_of(data.get("id")) or text_of(data.get("batch_id"))
    if not found and any(name in data for name in _TELLING):  # not an error that has a status of its own
        found = batch_id
    raw_state = data.get("status") or data.get("state")
    if not found or not isinstance(raw_state, str):
        return None
    known = _STATE_OF.get(raw_state.strip().lower().replace("-", "_").replace(" ", "_"))
    state = known or BatchState.RUNNING
    created = when(data.get("created_at"))
    total, completed, failed = _counts(data)
    return BatchStatus(
        id=found,
        state=state,
        raw_state=clean(raw_state)[:100],
        total=total,
        completed=completed,
        failed=failed,
        created=created,
        expires=when(data.get("expires_at")) or when(data.get("job_deadline")),
        ended=_ended(data, state, created),
        results=_results(data),
        problems=read_problems(data.get("errors") or data.get("error"), clean),
        token=_token(data.get("metadata")),
        input_ref=text_of(data.get("input_file_id")),
        unknown=known is None,
    )


def text_of(value: Any) -> str | None:
    """A string that is not empty, or a whole number as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def when(value: Any) -> float | None:
    """Seconds since 1970 from seconds, milliseconds or ISO text; None for anything else, and for 0."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _iso(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    if not math.isfinite(seconds) or seconds <= 0:
        return None
    return seconds / 1000 if seconds >= _MILLISECONDS else seconds


def _iso(value: str) -> float | None:
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.timestamp()
    except (OverflowError, OSError, ValueError):
        return None


def read_problems(errors: Any, clean: Callable[[str], str]) -> list[BatchProblem]:
    """The complaints of a validation: `{"data": […]}`, a list, one object, or a text."""
    if isinstance(errors, dict) and isinstance(errors.get("data"), list):
        errors = errors["data"]
    if isinstance(errors, dict):
        errors = [errors] if errors.get("message") or errors.get("code") else []
    if isinstance(errors, str):
        errors = [errors] if errors else []
    if not isinstance(errors, list):
        return []
    problems = []
    for entry in errors[:MAX_PROBLEMS]:
        if isinstance(entry, str):
            problems.append(BatchProblem("", clean(entry)[:2000]))
        elif isinstance(entry, dict):
            line = entry.get("line")
            number = line if isinstance(line, int) and not isinstance(line, bool) and line > 0 else None
            problems.append(
                BatchProblem(
                    code=clean(text_of(entry.get("code")) or "")[:200],
                    message=clean(text_of(entry.get("message")) or "")[:2000],
                    line=number,
                    param=clean(text_of(entry.get("param")) or "")[:200],
                )
            )
    return problems


def _unwrapped(data: dict[str, Any]) -> dict[str, Any]:
    """The object itself, where a reply has it inside (Together: `{"job": …, "warning"}`)."""
    if "id" not in data:
        for name in ("job", "batch", "data"):
            inner = data.get(name)
            if isinstance(inner, dict):
                return inner
    return data


def _counts(data: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    counts = data.get("request_counts")
    if isinstance(counts, dict):
        completed = counts.get("completed", counts.get("succeeded"))
        return _count(counts.get("total")), _count(completed), _count(counts.get("failed"))
    total = data.get("total", counts)
    return _count(total), _count(data.get("completed")), _count(data.get("failed"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _ended(data: dict[str, Any], state: BatchState, created: float | None) -> float | None:
    """When it ended. A time before its creation is a placeholder."""
    if not state.is_final:
        return None
    for name in (_END_FIELD[state], *_END_FIELD.values()):
        moment = when(data.get(name))
        if moment is not None and (created is None or moment >= created - 1):
            return moment
    return None


def _results(data: dict[str, Any]) -> list[ResultRef]:
    results = []
    output, errors = text_of(data.get("output_file_id")), text_of(data.get("error_file_id"))
    if output:
        results.append(ResultRef("output", output))
    if errors and errors != output:
        results.append(ResultRef("errors", errors))
    return results


def _token(metadata: Any) -> str | None:
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            return None
    return text_of(metadata.get(TOKEN_KEY)) if isinstance(metadata, dict) else None
