"""A window on a task: a page of chunks that moves along with the first that is not done, and its batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol import rpc
from batch_infer.render.task_pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_infer.render.shapes import Chunk, Submission
    from batch_infer.render.task_pages import Caller

_WINDOW = 100
_REFRESH_S = 0.5
_STEPS_MAX = 10  # pages skipped in one refresh, so that a late joiner of a huge task stays fluent


class ChunkWindow:
    """The chunks around the work of one task and its newest submissions, refreshed at most twice a second."""

    def __init__(self, task_id: str, monotonic: Callable[[], float]) -> None:
        self._task_id = task_id
        self._monotonic = monotonic
        self._cursor: int | None = None
        self._due = 0.0
        self._asked = 0.0
        self.chunks: tuple[Chunk, ...] = ()
        self.submissions: tuple[Submission, ...] = ()

    def refresh(self, peer: Caller) -> None:
        """Ask for the page again, and for the next one while all of it is done."""
        if self._monotonic() < self._due:
            return
        limit = _WINDOW
        for _ in range(_STEPS_MAX):
            page = peer.call(rpc.STATUS, {"task_id": self._task_id, "cursor": self._cursor, "limit": limit})
            self.chunks = tuple(page["chunks"])
            self.submissions = tuple((page.get("submissions") or {}).get("rows") or ())
            open_at = self._first_open()
            if open_at is not None:
                # The next page begins just before the first chunk that is not done.
                self._cursor = self.chunks[open_at - 2]["chunk"] if open_at > 1 else self._cursor
                break
            if page["next"] is None:
                break
            self._cursor, limit = page["next"], PAGE
        self._asked = self._monotonic()
        self._due = self._asked + _REFRESH_S

    def elapsed(self) -> float:
        """Seconds since the last refresh."""
        return self._monotonic() - self._asked

    def around(self, rows: int) -> tuple[Chunk, ...]:
        """At most `rows` chunks, from a little before the first one that is not done."""
        start = max(0, min((self._first_open() or 0) - 1, len(self.chunks) - rows))
        return self.chunks[start : start + rows]

    def _first_open(self) -> int | None:
        return next((i for i, chunk in enumerate(self.chunks) if chunk["state"] != "done"), None)
