"""A chunk in a worker's hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.scheduling.seat import Seat
    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task


class Lease:
    """A chunk in a worker's hands. `unstarted` is how many of its records the worker has not sent yet."""

    def __init__(self, lease: str, task: Task, row: ChunkRow, seat: Seat) -> None:
        self.id = lease
        self.task = task
        self.row = row
        self.seat = seat
        self.unstarted = row.records - row.answered - row.error - row.missing
        self.fresh = False  # the chunk has no journals: it is the first lease of it
        self.unbounded = False  # its calls may cost what they do: it was granted under a plan without budget
        self.asked_to_end = ""  # the mode that the worker was told: "drain", then perhaps "abort"
