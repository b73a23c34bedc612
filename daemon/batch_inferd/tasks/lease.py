"""A chunk in a worker's hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.scheduling.worker_process import WorkerProcess
    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task


class Lease:
    """A chunk in a worker's hands. `unstarted` is how many of its records the worker has not sent yet."""

    def __init__(self, lease: str, task: Task, row: ChunkRow, worker: WorkerProcess) -> None:
        self.id = lease
        self.task = task
        self.row = row
        self.worker = worker
        self.unstarted = row.records - row.answered - row.error - row.missing
        self.asked_to_end = ""  # the mode that the worker was told: "drain", then perhaps "abort"
