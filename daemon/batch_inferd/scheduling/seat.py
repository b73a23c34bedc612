"""A seat: one event loop of a worker process, as the daemon sees it. Leases and jobs are given to seats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_inferd.scheduling.worker_process import WorkerProcess


class Seat:
    """Made by its process. `name` is of this daemon's life only."""

    def __init__(self, process: WorkerProcess, number: int) -> None:
        self.process = process
        self.number = number
        self.name = f"{process.name}.{number}"
        self.leaving = False  # it was asked to end, or said that it does
        self.ended = False

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def key(self) -> str:
        """What a lease remembers of who had it."""
        return self.process.key

    @property
    def stopping(self) -> bool:
        """Ending, alone or with its process: it gets nothing any more."""
        return self.leaving or self.process.leaving

    @property
    def alive(self) -> bool:
        """Whether it may be given chunks."""
        return self.process.serves and not self.leaving and not self.ended

    def send(self, method: str, params: dict[str, Any]) -> None:
        """Queue a message for it; dropped when it is gone."""
        self.process.send(method, params | {"seat": self.number} if self.number else params)

    def leave(self) -> None:
        """Ask it to end; its calls in flight may finish."""
        self.leaving = True
        self.send("shutdown", {"mode": "drain", "seat": self.number})
