"""Upstream batches in words: all of a task's in one line, and a table of its submissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.columns import cell, cut, cut_middle, table, width

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from batch_infer.render.shapes import Batches, Submission, Summary

# States of a submission after which nothing happens to it any more.
CLOSED = frozenset({"collected", "refused", "dropped"})

_NAMES = {
    "packed": Text("packed"),
    "uploading": Text("uploading"),
    "uploaded": Text("uploaded"),
    "waiting_for_capacity": Text("waiting for capacity"),
    "creating": Text("being created"),
    "unsettled": Text("unsettled"),
    "live": Text("live"),
    "cancelling": Text("being cancelled"),
    "ended": Text("ended upstream"),
    "collecting": Text("being collected"),
    "collected": Text("collected"),
    "refused": Text("refused"),
    "dropped": Text("dropped"),
}
_COUNTED = (
    ("waiting", Text("{n} waiting")),
    ("collecting", Text("{n} being collected")),
    ("collected", Text("{n} collected")),
    ("refused", Text("{n} refused")),
    ("dropped", Text("{n} dropped")),
)
# Cells of a table for what the provider says; an id of OpenAI's has 38, a UUID 36.
_ID_CELLS = 64
_ID_CELLS_MIN = 12
_WORD_CELLS = 24
_WAITING_CELLS = 60
_WAITING_CELLS_MIN = 8
_WORDS_MAX = 6  # of the provider's states in the line
_ID_COLUMN = 1
_WAITING_COLUMN = 7


def batches(task: Summary, lang: str) -> str:
    """`12 live (in_progress 10, validating 2), 3 waiting, 40 collected; oldest 2h 10m, 21h 50m left; …`.

    Empty for a task of online calls.
    """
    found = task.get("batches")
    if not found:
        return ""
    counted = (
        (_live(found, lang), found.get("live")),
        *(
            (text._replace(params={"n": numbers.count(_n(found, key))}), _n(found, key))
            for key, text in _COUNTED
        ),
    )
    parts = [
        [text for text, n in counted if n] or [Text("none yet")],
        _times(found),
        _upstream(found),
    ]
    comma, semicolon = Text(", ").render(lang), Text("; ").render(lang)
    return semicolon.join(comma.join(text.render(lang) for text in part) for part in parts if part)


def _n(found: Batches, key: str) -> int:
    value = found.get(key)
    return value if isinstance(value, int) else 0


def paths(task: Summary, lang: str) -> str:
    """`1,200 by batches, 34 by online calls`; empty unless both ways were taken."""
    taken = task.get("paths") or {}
    if not (taken.get("batch") and taken.get("online")):
        return ""
    values = {key: numbers.count(taken[key]) for key in ("batch", "online")}
    return Text("{batch} by batches, {online} by online calls", values).render(lang)


def is_open(submission: Submission) -> bool:
    """Whether anything will still happen to a submission."""
    return submission["state"] not in CLOSED


def submission_table(
    submissions: Sequence[Submission], lang: str, *, elapsed: float = 0.0, cells: int | None = None
) -> list[str]:
    """A line a submission under a head line.

    `elapsed` are the seconds since the daemon told of them. With `cells`, what they wait for and then
    their ids are shortened so that the lines fit.
    """
    head = [
        "#",
        *(
            text.render(lang)
            for text in (
                Text("BATCH"),
                Text("STATE"),
                Text("DONE"),
                Text("FAILED"),
                Text("AGE"),
                Text("LEFT"),
                Text("WAITING FOR"),
            )
        ),
    ]
    rows = [head, *(_row(submission, lang, elapsed) for submission in submissions)]
    if not any(row[_WAITING_COLUMN] for row in rows[1:]):
        rows = [row[:_WAITING_COLUMN] for row in rows]
    if cells is not None:
        _shorten(rows, _WAITING_COLUMN, cut, _WAITING_CELLS_MIN, cells)
        _shorten(rows, _ID_COLUMN, cut_middle, _ID_CELLS_MIN, cells)
    return table(rows, right=(0, *range(3, 7)))


def more_submissions(n: int, task_id: str, *, at_least: bool) -> Text:
    """Where the submissions are that a table leaves out."""
    values = {"n": numbers.count(n), "id": task_id}
    if at_least:
        return Text("at least {n} more batches are shown by: batch_infer -status {id} -json", values)
    if n == 1:
        return Text("1 more batch is shown by: batch_infer -status {id} -json", values)
    return Text("{n} more batches are shown by: batch_infer -status {id} -json", values)


def worth_showing(submissions: Iterable[Submission], rows: int) -> list[Submission]:
    """At most `rows` of them: the oldest open ones, then the newest closed ones; by number."""
    ordered = sorted(submissions, key=lambda submission: submission["submission"])
    shown = [submission for submission in ordered if is_open(submission)][:rows]
    closed = [submission for submission in ordered if not is_open(submission)]
    shown += closed[len(closed) - min(rows - len(shown), len(closed)) :]
    return sorted(shown, key=lambda submission: submission["submission"])


def _live(found: Batches, lang: str) -> Text:
    values = {"n": numbers.count(found.get("live") or 0)}
    states = sorted((found.get("states") or {}).items(), key=lambda item: -item[1])
    words = [f"{cell(word, _WORD_CELLS)} {numbers.count(n)}" for word, n in states[:_WORDS_MAX]]
    if len(states) > _WORDS_MAX:
        words.append("…")
    if not words:
        return Text("{n} live", values)
    return Text("{n} live ({states})", values | {"states": Text(", ").render(lang).join(words)})


def _times(found: Batches) -> list[Text]:
    oldest, left = found.get("oldest_s"), found.get("left_s")
    return [
        *([] if oldest is None else [Text("oldest {time}", {"time": numbers.span(oldest)})]),
        *([] if left is None else [Text("{time} left", {"time": numbers.span(left)})]),
    ]


def _upstream(found: Batches) -> list[Text]:
    requests = found.get("requests") or {}
    total, failed = requests.get("total"), requests.get("failed")
    if not total:
        return []
    done = numbers.count(requests.get("completed") or 0)
    values = {"done": done, "total": numbers.count(total)}
    return [
        Text("requests {done} of {total} done upstream", values),
        *([Text("{n} failed", {"n": numbers.count(failed)})] if failed else []),
    ]


def _row(submission: Submission, lang: str, elapsed: float) -> list[str]:
    is_running = submission.get("ended") is None and is_open(submission)
    passed = elapsed if is_running else 0.0
    age, left = submission.get("age_s"), submission.get("left_s")
    batch, waiting = submission.get("batch"), submission.get("waiting")
    results = submission.get("results") or {}
    failed = (submission.get("counts") or {}).get("failed")
    failed = results.get("failed") if failed is None else failed
    return [
        str(submission["submission"]),
        cell(batch, _ID_CELLS) if batch else "",
        _state(submission, lang),
        _done(submission, lang),
        "" if failed is None else numbers.count(failed),
        "" if age is None else numbers.span(age + passed),
        "" if left is None or not is_running else numbers.span(left - passed),
        cell(Text.from_wire(waiting["text"]).render(lang), _WAITING_CELLS) if waiting else "",
    ]


def _state(submission: Submission, lang: str) -> str:
    """`live (in_progress)`: our state with the provider's word."""
    state, word = submission["state"], submission.get("upstream_state")
    name = _NAMES[state].render(lang) if state in _NAMES else cell(state, _WORD_CELLS)
    if not word:
        return name
    return Text("{state} ({code})", {"state": name, "code": cell(word, _WORD_CELLS)}).render(lang)


def _done(submission: Submission, lang: str) -> str:
    """`1,200 of 5,000`, by the provider's count; by ours once the results are there."""
    counts, results = submission.get("counts") or {}, submission.get("results") or {}
    total, completed = counts.get("total"), counts.get("completed")
    if completed is None:
        completed = results.get("answered")
    if not total:  # a provider that has not counted yet says 0, or nothing
        total = submission.get("requests") or 0
    unknown = "?" if submission.get("batch") else "0"
    done = unknown if completed is None else numbers.count(completed)
    return Text("{finished} of {input}", {"finished": done, "input": numbers.count(total)}).render(lang)


def _shorten(
    rows: list[list[str]], column: int, shorten: Callable[[str, int], str], least: int, cells: int
) -> None:
    """Shorten a column, down to `least`, where the lines are wider than `cells`."""
    if column >= len(rows[0]):
        return
    lines = [width(line) for line in table(rows)]
    most = max(width(row[column]) for row in rows)
    allowed = max(least, most - max(0, max(lines) - cells))
    for row in rows:
        row[column] = shorten(row[column], allowed)
