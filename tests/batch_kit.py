"""What the tests of the batch backend share: a config that looks often, and questions to the ledger."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx

from batch_inferd.testing.batch_ledger import billed_twice, overlapping_lines, read_batch_lines, read_batches
from harness import service_config, wait_for

if TYPE_CHECKING:
    from batch_inferd.testing.process import RunningService
    from harness import Shell

# Looks as often as a test wants it; the profile's own figures are for services far away.
QUICK: dict[str, Any] = {"settle": "2s", "poll": {"first": "0.1s", "max": "0.5s"}}


def batch_config(
    service: RunningService,
    *,
    batch: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """What `Shell.config` takes for a task with the batch backend."""
    return {
        "model": service_config(service, **(model or {})),
        "backend": "batch",
        "batch": QUICK | (batch or {}),
    } | changes


class Paid:
    """What the service's ledger says of all batches that were ever created."""

    def __init__(self, service: RunningService) -> None:
        self._folder = service.state_dir
        self.batches = read_batches(self._folder)
        self.lines = list(read_batch_lines(self._folder))

    @property
    def billed(self) -> Counter[str]:
        """How often each content was billed."""
        return Counter(line.content_digest for line in self.lines if line.billed_in is not None)

    def check_once(self) -> None:
        """Every content was billed at most once, and no line was ever in two live batches."""
        assert not billed_twice(self._folder)
        assert not overlapping_lines(self._folder)
        tokens = [batch.token for batch in self.batches]
        assert len(set(tokens)) == len(tokens), f"an intent became two batches: {tokens}"


def submissions(shell: Shell, task_id: str) -> list[dict[str, Any]]:
    """All submissions of a task, the newest first."""
    rows: list[dict[str, Any]] = shell.status(task_id)["submissions"]
    return rows


def wait_for_live(shell: Shell, task_id: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many submissions have a batch upstream that has not ended."""

    def look() -> list[dict[str, Any]]:
        rows = [row for row in submissions(shell, task_id) if row["state"] == "live"]
        return rows if len(rows) >= count else []

    found: list[dict[str, Any]] = wait_for(look, f"{count} live batches of {task_id}")
    return found


def waiting_codes(status: dict[str, Any]) -> set[str]:
    """What a task waits for."""
    return {entry["code"] for entry in status["waiting"]}


def uploads_left(service: RunningService) -> list[str]:
    """Ids of the request files that are still at the service."""
    reply = httpx.get(
        f"{service.base_url}/files",
        params={"purpose": "batch", "limit": 1000},
        headers={"Authorization": "Bearer sk-test"},
        trust_env=False,
        timeout=10,
    )
    return [file["id"] for file in reply.raise_for_status().json()["data"]]


def orphan_uploads(service: RunningService) -> set[str]:
    """Request files at the service that no batch was ever made of."""
    return set(uploads_left(service)) - {batch.input_file for batch in Paid(service).batches}
