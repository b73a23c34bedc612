"""Tasks as plain text: the list, one task in detail, its chunks, and the end of a task that was awaited."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.columns import cut, table
from batch_infer.render.pauses import pause_steps
from batch_infer.render.states import coded_state, name, state_line, time_left
from batch_infer.render.task_fields import fields, progress

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from batch_infer.render.shapes import Chunk, Counts, Summary

REASON_CELLS = 60
INVALID_INPUT = "invalid_input"  # the class of records whose input line cannot be sent


def task_list(tasks: Sequence[Summary], lang: str, *, reasons: bool = False) -> list[str]:
    """A line a task under a head line; with `reasons`, the state says why."""
    head = (
        Text("TASK"),
        Text("STATE"),
        Text("DONE"),
        Text("INPUT"),
        Text("ANSWERED"),
        Text("ERRORS"),
        Text("MISSING"),
        Text("RATE"),
        Text("LEFT"),
    )
    rows = [[text.render(lang) for text in head]]
    for task in tasks:
        counts = task["counts"]
        eta = time_left(task)
        moving = task["state"] in ("preparing", "running")
        explained = reasons and task.get("reason")
        state = cut(state_line(task, lang), REASON_CELLS) if explained else coded_state(task, lang)
        rows.append(
            [
                task["task_id"],
                state,
                numbers.share(task.get("share") or 0),
                _input(task),
                numbers.count(counts.get("output", 0)),
                numbers.count(counts.get("error", 0)),
                numbers.count(counts.get("missing", 0)),
                numbers.rate(task.get("rate_per_s") or 0) if moving else "",
                numbers.duration(eta) if eta is not None else "",
            ]
        )
    return table(rows, right=range(2, 9))


def task_detail(task: Summary, lang: str, now: float) -> list[str]:
    """One task, a labelled line for each thing that is known. `now` is wall time, seconds since 1970."""
    rows = [
        (Text("task").render(lang), task["task_id"]),
        (Text("state").render(lang), state_line(task, lang)),
        (Text("progress").render(lang), progress(task, lang)),
        *fields(task, lang, now),
        *_origin(task, lang),
    ]
    return table(rows)


def chunk_table(chunks: Sequence[Chunk], lang: str) -> list[str]:
    """A line a chunk under a head line."""
    head = (
        Text("CHUNK"),
        Text("STATE"),
        Text("INPUT"),
        Text("ANSWERED"),
        Text("ERRORS"),
        Text("MISSING"),
        Text("PENDING"),
        Text("RETRIES"),
    )
    rows = [[text.render(lang) for text in head]]
    for chunk in chunks:
        counts = chunk.get("counts", {})
        numbered = (counts.get("input"), counts.get("output"), counts.get("error"), counts.get("missing"))
        rows.append(
            [
                str(chunk["chunk"]),
                name(chunk["state"], lang),
                *(numbers.count(n or 0) for n in numbered),
                numbers.count(counts.get("pending", 0)),
                numbers.count(chunk.get("retries", 0)),
            ]
        )
    return table(rows, right=(0, *range(2, 8)))


def end_summary(task: Summary, lang: str) -> list[str]:
    """What a person wants to know at the end: counts, duration, rate, tokens, outputs, what to do next."""
    counts = task["counts"]
    started, ended = task.get("started") or task.get("created"), task.get("ended")
    title = Text("task {id} {state}", {"id": task["task_id"], "state": state_line(task, lang)})
    rows = [(label, value) for label, value in fields(task, lang, ended or 0.0) if value]
    if started and ended:
        seconds = ended - started
        total = counts.get("output", 0) + counts.get("error", 0) + counts.get("missing", 0)
        took = [
            _taken(seconds),
            *([numbers.rate(total / seconds)] if seconds > 0 and total else []),
        ]
        rows.insert(0, (Text("time").render(lang), " · ".join(took)))
    if task.get("identity") is True:
        rows.append((Text("accounted for").render(lang), _proof(counts).render(lang)))
    if task["state"] in ("completed", "cancelled"):
        rows += _files(task, lang)
    return [title.render(lang), *table(rows, indent="  ")]


def next_steps(task: Summary, error_classes: Collection[str] = ()) -> list[Text]:
    """What to do about a task that did not end well; empty when there is nothing to do.

    `error_classes` are those of the records in the error file, as far as they are known.
    """
    values = {"id": task["task_id"]}
    counts = task["counts"]
    if task["state"] == "paused":
        return pause_steps(task)
    if task["state"] == "completed" and (counts.get("error") or counts.get("missing")):
        if set(error_classes) == {INVALID_INPUT} and not counts.get("missing"):
            file = PurePath(task.get("outputs") or "", f"error_retry{task.get('round', 0)}.jsonl")
            return [
                Text("these input lines are not valid; what is wrong with each: {file}", {"file": str(file)}),
                Text("correct them in the input, and submit it under a new task-id"),
            ]
        return [Text("to try the failed and missing records again: batch_infer -retry {id}", values)]
    if task["state"] == "failed":
        return [Text("the log says more: batch_infer -logs {id}", values)]
    return []


def _input(task: Summary) -> str:
    """The number of records; `~` marks a guess from the part of the input that was read."""
    if task.get("input_complete", True):
        return numbers.count(task["counts"].get("input", 0))
    expected = numbers.count(task.get("expected") or task["counts"].get("input", 0))
    return expected if task.get("expected_exact") else f"~{expected}"


def _origin(task: Summary, lang: str) -> list[tuple[str, str]]:
    started, ended = task.get("started"), task.get("ended")
    rows: list[tuple[Text, str]] = [
        (Text("model"), " @ ".join(part for part in (task.get("model"), task.get("service")) if part)),
        (Text("backend"), task.get("backend") or ""),
        (Text("input"), task.get("input_path") or ""),
        (Text("outputs"), task.get("outputs") or ""),
        (Text("started"), numbers.moment(started) if started else ""),
        (Text("ended"), numbers.moment(ended) if ended else ""),
        (Text("log"), task.get("log") or ""),
        (Text("retry round"), str(task["round"]) if task.get("round") else ""),
    ]
    return [(label.render(lang), value) for label, value in rows if value]


def _taken(seconds: float) -> str:
    return f"{seconds:.1f} s" if 0 <= seconds < 60 else numbers.duration(seconds)


def _proof(counts: Counts) -> Text:
    """The identity in words; a cancelled task has records that are pending for good."""
    keys = ("input", "output", "error", "missing", "pending")
    values = {key: numbers.count(counts.get(key, 0)) for key in keys}
    if counts.get("pending"):
        return Text(
            "{input} in = {output} answered + {error} errors + {missing} missing + {pending} pending", values
        )
    return Text("{input} in = {output} answered + {error} errors + {missing} missing", values)


def _files(task: Summary, lang: str) -> list[tuple[str, str]]:
    """The output files with the number of their lines; the folder on the first row."""
    folder = task.get("outputs")
    if not folder:
        return []
    counts = task["counts"]
    lines = {
        "output.jsonl": counts.get("output", 0),
        f"error_retry{task.get('round', 0)}.jsonl": counts.get("error", 0),
        "missing_records.jsonl": counts.get("missing", 0),
    }
    named = [
        (
            Text("{file} (1 line)", {"file": file})
            if n == 1
            else Text("{file} ({n} lines)", {"file": file, "n": numbers.count(n)})
        ).render(lang)
        for file, n in lines.items()
    ]
    rows = [*named, "report.json"]
    label = Text("outputs").render(lang)
    return [(label, str(PurePath(folder))), *(("", row) for row in rows)]
