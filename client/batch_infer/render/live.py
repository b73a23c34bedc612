"""The live view on a terminal, drawn by rich: one task with its chunks and batches, or all tasks.

The daemon's pushes only exchange an immutable snapshot; rich's own thread draws it four times a
second, so that times go on counting while nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self, TextIO

import rich.console
import rich.live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text as RichText

from batch_infer.protocol.text import Text, printable
from batch_infer.render import numbers
from batch_infer.render.batch_text import is_open, submission_table
from batch_infer.render.chunk_window import ChunkWindow
from batch_infer.render.columns import cut, width
from batch_infer.render.states import explained, has_ended, state_line
from batch_infer.render.task_fields import fields, load, progress, waits
from batch_infer.render.task_text import chunk_table, task_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from batch_infer.render.console import Console
    from batch_infer.render.shapes import Chunk, Load, Submission, Summary
    from batch_infer.render.task_fields import Field
    from batch_infer.render.task_pages import Caller

_COLOURS = {
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "paused": "yellow",
}
_CHUNK_ROWS_MIN = 3
_SUBMISSION_ROWS_MIN = 2  # fewer are not worth their head line, unless there are fewer
# Lines around the tables: title, bar, head of the chunks, load of the daemon, notice, cursor.
_OTHER_ROWS = 6


class _Snapshot(NamedTuple):
    tasks: tuple[Summary, ...]
    daemon: Load
    chunks: ChunkWindow | None
    notice: Text | None


class Live:
    """A view that redraws itself; a context manager. `task_id` None shows all tasks."""

    def __init__(
        self,
        console: Console,
        stream: TextIO,
        task_id: str | None,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._lang = console.lang
        self._task_id = task_id
        self._now = now
        window = ChunkWindow(task_id, monotonic) if task_id is not None else None
        self._snapshot = _Snapshot((), {}, window, None)
        self._screen = rich.console.Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live = rich.live.Live(
            console=self._screen,
            get_renderable=self.render,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A task's end is told by the summary; the last frame stays only where there will be none.
        tasks = self._snapshot.tasks
        summary_follows = self._task_id is not None and bool(tasks) and has_ended(tasks[0])
        self._live.transient = summary_follows and kind is None
        self._live.stop()

    def show(self, tasks: Mapping[str, Summary], _changed: Sequence[Summary], daemon: Load) -> None:
        """Exchange the snapshot; drawn at the next beat."""
        self._snapshot = self._snapshot._replace(tasks=tuple(tasks.values()), daemon=daemon, notice=None)

    def look(self, peer: Caller) -> None:
        """Ask for the chunks to show."""
        if self._snapshot.chunks is not None:
            self._snapshot.chunks.refresh(peer)

    def notice(self, text: Text) -> None:
        """Shown until the next change."""
        self._snapshot = self._snapshot._replace(notice=text)

    def render(self) -> rich.console.RenderableType:
        """The picture of the moment."""
        snapshot = self._snapshot
        parts: list[rich.console.RenderableType] = []
        if self._task_id is not None:
            for task in snapshot.tasks[:1]:
                parts += self._one(task, snapshot)
        else:
            parts += self._all(snapshot.tasks)
        if snapshot.daemon:
            parts.append(RichText(load(snapshot.daemon, self._lang), style="dim"))
        if snapshot.notice is not None:
            parts.append(RichText(snapshot.notice.render(self._lang), style="yellow"))
        return rich.console.Group(*parts)

    def _one(self, task: Summary, snapshot: _Snapshot) -> list[rich.console.RenderableType]:
        title = RichText(f"{task['task_id']}  ", style="bold")
        title.append(state_line(task, self._lang), style=_COLOURS.get(task["state"], "cyan"))
        model = " @ ".join(part for part in (task.get("model"), task.get("service")) if part)
        parts_of = (model, task.get("backend"))
        title.append("  " + printable(" · ".join(part for part in parts_of if part)), style="dim")
        bar = ProgressBar(
            total=1.0,
            completed=min(1.0, task.get("share") or 0.0),
            width=40,
            complete_style="cyan",
            finished_style="green",
        )
        line = Table.grid(padding=(0, 2))
        line.add_row(bar, RichText(progress(task, self._lang)))
        grid = Table.grid(padding=(0, 2))
        facts = fields(task, self._lang, self._now())
        for label, value in facts:
            grid.add_row(RichText(label, style="dim"), RichText(value))
        parts: list[rich.console.RenderableType] = [title, line, grid]
        if snapshot.chunks is not None and not has_ended(task):
            parts += self._tables(
                snapshot.chunks, self._screen.size.height - self._height(facts) - _OTHER_ROWS
            )
        return parts

    def _height(self, facts: Sequence[Field]) -> int:
        """The lines that the labelled facts take, as long ones are folded."""
        labels = max((width(label) for label, _ in facts), default=0)
        room = max(1, self._screen.size.width - labels - 2)
        return sum(max(1, -(-width(value) // room)) for _, value in facts)

    def _tables(self, window: ChunkWindow, free: int) -> list[rich.console.RenderableType]:
        """The chunks, and below them the open submissions as far as there is room."""
        submissions = sorted(filter(is_open, window.submissions), key=lambda row: row["submission"])
        room = free - _CHUNK_ROWS_MIN - 2  # a head line, and a line that says how many more
        if room < min(_SUBMISSION_ROWS_MIN, len(submissions)):
            submissions = []
        shown = submissions[: max(0, room)]
        parts: list[rich.console.RenderableType] = []
        chunks = window.around(max(free - len(shown) - (2 if shown else 0), _CHUNK_ROWS_MIN))
        if chunks:
            parts.append(self._chunks(chunks))
        if shown:
            parts.append(self._submissions(shown, window.elapsed()))
        if len(submissions) > len(shown):
            more = Text("and {n} more", {"n": numbers.count(len(submissions) - len(shown))})
            parts.append(RichText(more.render(self._lang), style="dim"))
        return parts

    def _submissions(self, shown: Sequence[Submission], elapsed: float) -> RichText:
        head, *rows = submission_table(shown, self._lang, elapsed=elapsed, cells=self._screen.size.width)
        text = RichText(head, style="dim", no_wrap=True)
        for submission, row in zip(shown, rows, strict=True):
            text.append("\n")
            text.append(row, style="yellow" if submission.get("waiting") else "cyan")
        return text

    def _chunks(self, chunks: Sequence[Chunk]) -> RichText:
        head, *rows = chunk_table(chunks, self._lang)
        text = RichText(head, style="dim", no_wrap=True)
        for chunk, row in zip(chunks, rows, strict=True):
            style = {"done": "green", "leased": "cyan"}.get(chunk["state"], "")
            text.append("\n")
            text.append(row, style=style)
        return text

    def _all(self, tasks: Sequence[Summary]) -> list[rich.console.RenderableType]:
        """Unfinished tasks first, as many as the terminal has lines for."""
        size = self._screen.size
        ordered = sorted(tasks, key=has_ended)
        shown = ordered[: max(1, size.height - 6)]
        if not shown:
            return [RichText(Text("there is no task").render(self._lang))]
        head, *rows = task_list(shown, self._lang)
        text = RichText(head, style="dim", no_wrap=True)
        for task, row in zip(shown, rows, strict=True):
            text.append("\n")
            text.append(row, style=_COLOURS.get(task["state"], ""))
        parts: list[rich.console.RenderableType] = [text]
        if len(ordered) > len(shown):
            more = Text("and {n} more", {"n": numbers.count(len(ordered) - len(shown))})
            parts.append(RichText(more.render(self._lang), style="dim"))
        for task in shown:
            parts += [
                RichText(
                    cut(
                        explained(task["task_id"], line, self._lang),
                        max(size.width, width(task["task_id"]) + 4),
                    )
                )
                for line in waits(task, self._lang, self._now())
            ]
        return parts
