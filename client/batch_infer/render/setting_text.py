"""Settings in words: what -set changed, and how a task runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_infer.render import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_infer.render.shapes import Execution, Summary


def change_words(task_id: str, changes: Iterable[dict[str, Any]], lang: str) -> list[str]:
    """`task demo: concurrency 64 → 128`, a line a change."""
    lines = [
        Text(
            "task {id}: {key} {old} -> {new}",
            {
                "id": task_id,
                "key": change["key"],
                "old": setting(change["key"], change["from"], lang),
                "new": setting(change["key"], change["to"], lang),
            },
        ).render(lang)
        for change in changes
    ]
    return lines or [Text("task {id}: nothing to change", {"id": task_id}).render(lang)]


def setting(key: str, value: Any, lang: str) -> str:
    """One value: sizes in their units, no limit in words."""
    if key == "log_dir" and value is None:
        return Text("logs of the workspace").render(lang)
    if value is None:
        return Text("no limit").render(lang)
    if key == "bytes_in_flight":
        return numbers.size(value)
    return str(value)


def runs(task: Summary, lang: str) -> str:
    """`multiprocessing × 4, 64 calls at first (at most 1,024), priority 1`.

    Empty where it is not known, for tasks that have ended, and for those of batches, which make few calls.
    """
    execution = task.get("execution")
    active = task["state"] in ("preparing", "running", "paused")
    if not execution or not active or task.get("backend") == "batch":
        return ""
    parts = [
        f"{execution['mode']} × {execution['processes']}" if execution["mode"] != "asyncio" else "asyncio",
        Text(
            "{n} calls at first (at most {limit})",
            {
                "n": numbers.count(min(execution["concurrency"], execution["max_concurrency"])),
                "limit": numbers.count(execution["max_concurrency"]),
            },
        ).render(lang),
        *_limits(execution, lang),
    ]
    if execution["priority"]:
        parts.append(Text("priority {n}", {"n": execution["priority"]}).render(lang))
    return Text(", ").render(lang).join(parts)


def _limits(execution: Execution, lang: str) -> list[str]:
    limits = (
        (Text("{n} requests a minute", {"n": numbers.count(execution["rpm"] or 0)}), execution["rpm"]),
        (Text("{n} tokens a minute", {"n": numbers.count(execution["tpm"] or 0)}), execution["tpm"]),
    )
    return [text.render(lang) for text, limit in limits if limit is not None]
