"""Views for what is no terminal: nothing but notices, plain progress lines, or JSON lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.batch_text import batches, paths
from batch_infer.render.public import public_task
from batch_infer.render.states import explained, has_ended, needs_person, state_line, waiting_codes
from batch_infer.render.task_fields import progress, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batch_infer.render.console import Console
    from batch_infer.render.shapes import Load, Summary

# Waiting that comes and goes all the time, and is no news of its own.
_ROUTINE = frozenset({"retry", "rate_limit", "pool"})
# Seconds between two lines about the same task, while its counts change and while nothing does.
LINE_INTERVAL_S = 2.0
STILL_INTERVAL_S = 60.0


class _Plain:
    """What all of these views share."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def look(self, peer: Any) -> None:
        """These views show only what is pushed."""

    def notice(self, text: Text) -> None:
        """On stderr."""
        self.console.note(text)


class Quiet(_Plain):
    """Says only what a task waits for, and why it is paused, each time that changes."""

    def __init__(self, console: Console, now: Callable[[], float]) -> None:
        super().__init__(console)
        self._now = now
        self._said: dict[str, Any] = {}

    def show(self, _tasks: Mapping[str, Summary], changed: Sequence[Summary], _daemon: Load) -> None:
        """Say the troubles that are new."""
        for task in changed:
            if has_ended(task) or needs_person(task):
                continue  # the summary that follows says it
            trouble = _trouble(task)
            if trouble == self._said.get(task["task_id"], ("", None, ())):
                continue
            self._said[task["task_id"]] = trouble
            lang = self.console.lang
            lines = [state_line(task, lang), *waits(task, lang, self._now())]
            self.console.say(explained(task["task_id"], " · ".join(lines), lang))


class _Pace:
    """Which tasks are worth a line now.

    At once when the state changes, at most each 2 s when the counts, its batches or what it waits for
    do, and once a minute when nothing does, until the task has ended.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._shown: dict[str, tuple[float, Any, Any]] = {}

    def due(self, tasks: Mapping[str, Summary]) -> list[Summary]:
        """Those tasks; they count as shown from now on."""
        now = self._monotonic()
        found = []
        for task in tasks.values():
            reason = task.get("reason")
            state = (task["state"], reason["code"] if reason else None, bool(task.get("cancelling")))
            news = (dict(task["counts"]), waiting_codes(task), _batch_news(task))
            at, last_state, last_news = self._shown.get(task["task_id"], (now, None, None))
            quiet = STILL_INTERVAL_S if news == last_news else LINE_INTERVAL_S
            ended_quietly = has_ended(task) and news == last_news
            if state == last_state and (ended_quietly or now - at < quiet):
                continue
            self._shown[task["task_id"]] = (now, state, news)
            found.append(task)
        return found


class ProgressLines(_Plain):
    """A line for a task now and then: when it changes, at most each 2 s, and once a minute."""

    def __init__(
        self,
        console: Console,
        write: Callable[[str], None],
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(console)
        self._write = write
        self._now = now
        self._pace = _Pace(monotonic)

    def show(self, tasks: Mapping[str, Summary], _changed: Sequence[Summary], _daemon: Load) -> None:
        """Write the lines that are due."""
        for task in self._pace.due(tasks):
            self._write(self._line(task))

    def _line(self, task: Summary) -> str:
        lang = self.console.lang
        counts = task["counts"]
        parts = [state_line(task, lang), progress(task, lang)]
        for text, n in (
            (Text("errors {n}", {"n": numbers.count(counts.get("error", 0))}), counts.get("error")),
            (Text("missing {n}", {"n": numbers.count(counts.get("missing", 0))}), counts.get("missing")),
            (Text("retries {n}", {"n": numbers.count(task.get("retries", 0))}), task.get("retries")),
        ):
            if n:
                parts.append(text.render(lang))
        spent = (task.get("cost") or {}).get("spent")
        if spent:
            parts.append(numbers.money(spent, (task.get("cost") or {}).get("currency", "")))
        for fact, shown in (
            (Text("batches: {what}"), batches(task, lang)),
            (Text("answers: {what}"), paths(task, lang)),
        ):
            if shown:
                parts.append(fact._replace(params={"what": shown}).render(lang))
        parts += [
            Text("waiting: {what}", {"what": line}).render(lang) for line in waits(task, lang, self._now())
        ]
        clock = time.strftime("%H:%M:%S", time.localtime(self._now()))
        return f"{clock}  {task['task_id']}  " + " · ".join(parts)


class JsonLines(_Plain):
    """JSON objects, one a line, as often as `ProgressLines`, with the load of daemon and workers."""

    def __init__(self, console: Console, monotonic: Callable[[], float]) -> None:
        super().__init__(console)
        self._pace = _Pace(monotonic)

    def show(self, tasks: Mapping[str, Summary], _changed: Sequence[Summary], daemon: Load) -> None:
        """Write the lines that are due."""
        for task in self._pace.due(tasks):
            self.console.json(public_task(task, self.console.lang) | {"daemon": daemon or None})


def _batch_news(task: Summary) -> tuple[Any, ...]:
    """What of a task's batches is news: their states and counts, not their ages."""
    found = task.get("batches") or {}
    figures = tuple(found.get(key) for key in ("live", "waiting", "collected"))
    return (*figures, dict(found.get("states") or {}), dict(found.get("requests") or {}))


def _trouble(task: Summary) -> tuple[str, str | None, tuple[str, ...]]:
    """What is worth a line at once: the pause and its reason, and the unusual kinds of waiting."""
    reason = task.get("reason")
    return (
        "paused" if task["state"] == "paused" else "",
        reason["code"] if reason else None,
        tuple(code for code in waiting_codes(task) if code not in _ROUTINE),
    )
