"""Reading images for a batch: what may go well later is tried again here, for a job cannot wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from batch_inferd.images.errors import ImageError
from batch_inferd.worker.waits import full_jitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.worker.batch.context import JobContext

_T = TypeVar("_T")


def patiently(context: JobContext, work: Callable[[], _T]) -> _T:
    """The result of `work`, tried as often as a call would be. Blocks. Raises ImageError, JobCancelled."""
    retry = context.plan.retry
    failures = 0
    while True:
        context.check()
        try:
            return work()
        except ImageError as error:
            failures += 1
            if not error.transient or failures > retry.max_count:
                raise
            context.stop.wait(full_jitter(retry, failures))
