"""Reading a task's journals for its picture, and writing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.errors import UsageError
from batch_infer.protocol.text import Text
from batch_inferd.exports.picture.page import Facts, draw
from batch_inferd.exports.picture.series import Event, Series
from batch_inferd.exports.reading import ExportStopped
from batch_inferd.journal.names import Listing
from batch_inferd.journal.scan import scan_journal
from batch_inferd.merge.index import Journals

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from batch_inferd.exports.reading import Exported
    from batch_inferd.merge.outputs import OutputFile


def write_picture(
    out: OutputFile,
    tasks: Sequence[Exported],
    advance: Callable[[int], None],
    stop: threading.Event | None,
) -> int:
    """Draw the run of the one task; how many records it has.

    Raises OSError, ExportStopped, and UsageError where there are several tasks.
    """
    if len(tasks) != 1:
        raise UsageError(
            Text("a picture shows the run of one task, not of {n}", {"n": len(tasks)}),
            hints=(Text("write one picture for each task"),),
        )
    task = tasks[0]
    series = read_series(task, advance, stop)
    out.write(draw(Facts(task.task_id, task.summary), series).encode())
    return task.total


def read_series(
    task: Exported, advance: Callable[[int], None] = lambda _: None, stop: threading.Event | None = None
) -> Series:
    """Everything that the journals say, of all rounds. Raises OSError, ExportStopped."""
    series = Series()
    listing = Listing(task.directory)
    done = 0
    for row in task.chunks():
        names = listing.of_chunk(row.chunk)
        journals = Journals(task.directory, names)
        try:
            for number in range(len(names)):
                for scanned in scan_journal(journals.fd(number)):
                    if stop is not None and stop.is_set():
                        raise ExportStopped
                    if isinstance(scanned.entry, Event):
                        series.add(scanned.entry)
        finally:
            journals.close()
        done = min(task.total, done + row.lines)
        advance(done)
    return series
