"""A task with all of its chunks and submissions, which are asked for page by page as they are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from batch_infer.protocol import rpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_infer.render.shapes import Chunk, Submission, Summary

PAGE = 1000
# A submission may take a few KiB, and an answer of the daemon has at most 1 MiB.
SUBMISSIONS_PAGE = 200


class Caller(Protocol):
    """Something that sends a request to the daemon."""

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result."""


class TaskPages(NamedTuple):
    """A task, its chunks by number, and its submissions, the newest first."""

    task: Summary
    chunks: Iterator[Chunk]
    submissions: Iterator[Submission]


def task_pages(peer: Caller, task_id: str) -> TaskPages:
    """One task; only its first pages are asked for yet. Raises TaskNotFound."""
    task = peer.call(rpc.STATUS, {"task_id": task_id, "cursor": None, "limit": PAGE})
    chunks, chunk_cursor = task.pop("chunks"), task.pop("next")
    first = task.pop("submissions", None) or {}

    def all_chunks() -> Iterator[Chunk]:
        yield from chunks
        cursor = chunk_cursor
        while cursor is not None:
            page = peer.call(rpc.STATUS, {"task_id": task_id, "cursor": cursor, "limit": PAGE})
            yield from page["chunks"]
            cursor = page["next"]

    def all_submissions() -> Iterator[Submission]:
        yield from first.get("rows") or ()
        cursor = first.get("next")
        while cursor is not None:
            params = {"task_id": task_id, "cursor": cursor, "limit": SUBMISSIONS_PAGE}
            page = peer.call(rpc.SUBMISSIONS, params)
            yield from page["rows"]
            cursor = page["next"]

    return TaskPages(task, all_chunks(), all_submissions())
