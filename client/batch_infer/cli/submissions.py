"""The table of a task's submissions, below what else is said about it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from batch_infer.render.batch_text import is_open, more_submissions, submission_table, worth_showing
from batch_infer.render.task_pages import SUBMISSIONS_PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_infer.cli.context import Context
    from batch_infer.render.shapes import Submission

# As text, this many are shown; those that are not at their end come first.
SHOWN = 20
_LOOKED_THROUGH = 25 * SUBMISSIONS_PAGE


class Newest:
    """The newest submissions of a task, taken while there is a connection and shown later."""

    def __init__(self, submissions: Iterator[Submission]) -> None:
        found = list(islice(submissions, _LOOKED_THROUGH + 1))
        self._found = found[:_LOOKED_THROUGH]
        self._is_all = len(self._found) == len(found)

    def show(self, context: Context, task_id: str, *, only_open: bool = False) -> None:
        """Print the table, and how many it leaves out; nothing where there are none."""
        found = [row for row in self._found if is_open(row)] if only_open else self._found
        if not found:
            return
        shown = worth_showing(found, SHOWN)
        context.console.data("")
        for line in submission_table(shown, context.lang):
            context.console.data(line)
        left_out = len(found) - len(shown)
        if not self._is_all and not only_open:
            context.console.tell(more_submissions(left_out + 1, task_id, at_least=True))
        elif left_out:
            context.console.tell(more_submissions(left_out, task_id, at_least=False))
