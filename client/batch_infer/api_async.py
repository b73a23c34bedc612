"""The Python API for programs on asyncio: as `batch_infer.api`, and the event loop is never blocked."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from batch_infer.api import Config, Status, StrPath, Task, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from batch_infer.results import Result

_SLICE_S = 2.0  # a wait that is cancelled leaves its thread behind for so long at most
_AT_ONCE = 100


async def submit_async(
    input: StrPath,  # noqa: A002
    task_id: str,
    *,
    config: Config | None = None,
    workspace: StrPath | None = None,
    settings: Mapping[str, Any] | None = None,
) -> AsyncTask:
    """As `batch_infer.submit`."""
    task = await asyncio.to_thread(
        submit, input, task_id, config=config, workspace=workspace, settings=settings
    )
    return AsyncTask(task)


class AsyncTask:
    """As `batch_infer.Task`, with coroutines."""

    def __init__(self, task: Task) -> None:
        """`AsyncTask(Task(task_id))` is for a task that is there already."""
        self.task = task

    def __repr__(self) -> str:
        return f"AsyncTask({self.task!r})"

    @property
    def id(self) -> str:
        """The task's name."""
        return self.task.id

    @property
    def notes(self) -> tuple[str, ...]:
        """What the daemon said at the submit."""
        return self.task.notes

    @property
    def outputs(self) -> Path:
        """The folder of the outputs."""
        return self.task.outputs

    async def status(self) -> Status:
        """See `Task.status`."""
        return await asyncio.to_thread(self.task.status)

    async def wait(self, timeout: float | None = None) -> Status:  # noqa: ASYNC109  as Task.wait
        """See `Task.wait`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            part = _SLICE_S if left is None else min(left, _SLICE_S)
            try:
                return await asyncio.to_thread(self.task.wait, part)
            except TimeoutError:
                if left is not None and left <= part:
                    raise

    async def results(self) -> AsyncIterator[Result]:
        """See `Task.results`."""
        found = self.task.results()
        try:
            while some := await asyncio.to_thread(lambda: list(islice(found, _AT_ONCE))):
                for result in some:
                    yield result
        finally:
            await asyncio.to_thread(found.close)

    async def export(self, path: StrPath, format: str | None = None, encoding: str | None = None) -> Path:  # noqa: A002
        """See `Task.export`."""
        return await asyncio.to_thread(self.task.export, path, format, encoding)

    async def cancel(self) -> None:
        """See `Task.cancel`."""
        await asyncio.to_thread(self.task.cancel)

    async def pause(self) -> None:
        """See `Task.pause`."""
        await asyncio.to_thread(self.task.pause)

    async def resume(self) -> None:
        """See `Task.resume`."""
        await asyncio.to_thread(self.task.resume)

    async def retry(self) -> int:
        """See `Task.retry`."""
        return await asyncio.to_thread(self.task.retry)
