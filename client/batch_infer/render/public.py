"""Tasks as JSON for programs: `reason` becomes its code, texts are rendered in the shell's language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_infer.render.states import reason_text, time_left

if TYPE_CHECKING:
    from batch_infer.render.shapes import Submission, Summary, Waiting

SCHEMA = 1
_FIRST = (
    "schema",
    "task_id",
    "state",
    "reason",
    "reason_text",
    "counts",
    "retries",
    "rate_per_s",
    "eta_s",
    "cost",
    "backend",
)


def public_task(task: Summary, lang: str) -> dict[str, Any]:
    """One task in the documented shape; see docs/cli.md."""
    reason = task.get("reason")
    flat: dict[str, Any] = {
        **task,
        "schema": SCHEMA,
        "eta_s": time_left(task),
        "reason": reason["code"] if reason else None,
        "reason_text": reason_text(task, lang) or None,
        "waiting": [_public_waiting(waiting, lang) for waiting in task.get("waiting", ())],
    }
    first = {key: flat.pop(key) for key in _FIRST if key in flat}
    return first | flat


def public_submission(submission: Submission, lang: str) -> dict[str, Any]:
    """One submission in the documented shape."""
    waiting = submission.get("waiting")
    return {**submission, "waiting": _public_waiting(waiting, lang) if waiting else None}


def public_tasks(tasks: list[Summary], lang: str, **more: Any) -> dict[str, Any]:
    """Several tasks in one object."""
    return {"schema": SCHEMA, **more, "tasks": [public_task(task, lang) for task in tasks]}


def _public_waiting(waiting: Waiting, lang: str) -> dict[str, Any]:
    return {**waiting, "text": Text.from_wire(waiting["text"]).render(lang)}
