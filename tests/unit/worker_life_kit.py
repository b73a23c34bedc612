"""Waiting for a worker and its service, and what both have to have agreed on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker_kit import Folder

    from batch_inferd.testing.process import RunningService


def until(check: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def wait_requests(service: RunningService, count: int) -> None:
    until(lambda: service.summary().requests >= count, f"{count} requests")


def recorded(folder: Folder) -> int:
    return len(folder.records("answer"))


def assert_paid_once(service: RunningService, folder: Folder, chunk: int = 1) -> None:
    """Each line ended once, and nothing was sent for a line after its answer was recorded."""
    answers = [entry for entry in folder.entries(chunk) if entry["k"] == "answer"]
    assert len({entry["line"] for entry in answers}) == len(answers)
    rows = service.ledger()
    digest_of = {row.request_id: row.content_digest for row in rows}
    last_of = {row.content_digest: row.request_id for row in rows}
    for entry in answers:
        request_id = entry["rec"]["response"]["request_id"]
        assert last_of[digest_of[request_id]] == request_id
