"""Collecting the results of one submission at a desk: the shortest ways to ask and to look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker_kit import ask

from batch_inferd.journal.names import journal_name

if TYPE_CHECKING:
    from batch_jobs_kit import Desk

SECRET = "sk-very-secret-key"  # as in the plan that bodies are built by


def add(desk: Desk, count: int, **fields: Any) -> None:
    desk.add(*(ask(f"q{n}", **fields) for n in range(1, count + 1)))


def journal(desk: Desk, *lines: bytes, chunk: int = 1, lease: str = "aa") -> None:
    (desk.path / journal_name(chunk, lease)).write_bytes(b"".join(lines))


def tokens(found: dict[str, Any]) -> tuple[int, int, int]:
    return found["tokens_in"], found["tokens_out"], found["tokens_unknown"]


def one(
    desk: Desk, line: bytes | None, *, kind: str = "output", before: tuple[bytes, ...] = (), **params: Any
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Collect a single result of a single record; the entry that was journaled for it."""
    add(desk, 1)
    if before:
        journal(desk, *before)
    known = len(desk.folder.entries())
    found = desk.collect(desk.results(*([line] if line else []), kind=kind), **params)
    entries = (
        desk.folder.entries()[known:]
        if not before
        else [entry for entry in desk.folder.entries() if entry.get("submission") or entry["k"] != "attempt"]
    )
    assert len(entries) <= 1
    return found, entries[0] if entries else None
