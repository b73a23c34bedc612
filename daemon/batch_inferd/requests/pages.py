"""Pages of summaries: as many as fit well into a frame, whatever their texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from batch_inferd.tasks.summary import summary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_inferd.tasks.task import Task

_BYTES = 512 * 1024  # half of what a frame may hold


def summaries(tasks: Iterable[Task]) -> list[dict[str, Any]]:
    """The summaries of the first tasks, until the page is full; at least one, where there is one."""
    rows: list[dict[str, Any]] = []
    size = 0
    for task in tasks:
        row = summary(task)
        size += len(json.dumps(row))  # as ASCII: never less than what is sent
        if rows and size > _BYTES:
            break
        rows.append(row)
    return rows
