"""Work done meanwhile, in order: hashing, writing and syncing large blocks need no interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor


class Behind:
    """One piece of work at a time, in a thread; `start` waits for the piece before."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        """`thread` has one worker; others may use it, too."""
        self._thread = thread
        self._piece: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Do this once the piece before is done. Raises what that raised, and then starts nothing."""
        self.wait()
        self._piece = self._thread.submit(work)

    def wait(self) -> None:
        """Until nothing is under way. Raises what the last piece raised, each time."""
        if self._piece is not None:
            self._piece.result()
