"""The daemon in words and as JSON."""

from __future__ import annotations

from typing import Any

from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.public import SCHEMA
from batch_infer.render.shapes import Load
from batch_infer.render.states import name
from batch_infer.render.task_fields import load

Status = dict[str, Any]


def load_of(status: Status) -> Load:
    """CPU and memory out of the answer to `daemon.status`."""
    return Load(cpu=status.get("cpu") or 0.0, rss=status.get("rss") or 0, workers=status.get("workers") or [])


def daemon_lines(status: Status, lang: str) -> list[str]:
    """Who runs since when, with which tasks, and what that takes."""
    values = {
        "pid": status["pid"],
        "version": status["version"],
        "time": numbers.moment(status["started"]),
    }
    lines = [Text("the daemon runs: pid {pid}, version {version}, since {time}", values).render(lang)]
    tasks = [f"{name(state, lang)} {n}" for state, n in (status.get("tasks") or {}).items() if n]
    if tasks:
        lines.append(Text("tasks: {list}", {"list": Text(", ").render(lang).join(tasks)}).render(lang))
    lines.append(load(load_of(status), lang))
    return lines


def public_daemon(status: Status | None) -> Status:
    """The answer to `daemon.status` in its documented shape; None stands for no daemon."""
    if status is None:
        return {"schema": SCHEMA, "running": False}
    return {"schema": SCHEMA, "running": True, **status}
