"""A task in words: labels and values, shared by -status, the progress lines and the live view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.batch_text import batches, paths
from batch_infer.render.cost_text import task_cost
from batch_infer.render.setting_text import runs
from batch_infer.render.states import name, time_left

if TYPE_CHECKING:
    from batch_infer.render.shapes import Load, Summary

Field = tuple[str, str]
BATCH = "batch"  # the backend of tasks that run as upstream batches


def progress(task: Summary, lang: str) -> str:
    """`42.0% · 1,260 of 3,000 · 35.2/s · 0:01:12 left`."""
    counts = task["counts"]
    finished = counts.get("output", 0) + counts.get("error", 0) + counts.get("missing", 0)
    complete = task.get("input_complete", True)
    expected = counts.get("input", 0) if complete else task.get("expected") or counts.get("input", 0)
    values = {"finished": numbers.count(finished), "input": numbers.count(expected)}
    of_all = Text("{finished} of {input}", values)
    if not complete and not task.get("expected_exact"):
        of_all = Text("{finished} of about {input}", values)
    parts = [numbers.share(task.get("share") or 0)]
    if complete or expected:
        parts.append(of_all.render(lang))
    if task["state"] == "merging":
        merged = numbers.share(task.get("merge_share") or 0)
        parts.append(Text("merged {share}", {"share": merged}).render(lang))
    if task["state"] in ("preparing", "running"):
        parts.append(numbers.rate(task.get("rate_per_s") or 0))
        eta = time_left(task)
        if eta is not None:
            parts.append(Text("{time} left", {"time": numbers.duration(eta)}).render(lang))
    return " · ".join(parts)


def records(task: Summary, lang: str) -> str:
    """`answered 1,240, errors 12, missing 0, pending 1,740`, and what is not zero of the rest."""
    counts = task["counts"]
    text = Text(
        "answered {output}, errors {error}, missing {missing}, pending {pending}",
        {key: numbers.count(counts.get(key, 0)) for key in ("output", "error", "missing", "pending")},
    ).render(lang)
    more = (
        (Text("retries {n}", {"n": numbers.count(task.get("retries", 0))}), task.get("retries")),
        (Text("blank lines {n}", {"n": numbers.count(counts.get("blank", 0))}), counts.get("blank")),
        (_left_out(task), task.get("left_out")),
    )
    return Text(", ").render(lang).join([text, *(extra.render(lang) for extra, shown in more if shown)])


def _left_out(task: Summary) -> Text:
    values = {"n": numbers.count(task.get("left_out", 0))}
    if task.get("left_out_exact", True):
        return Text("left out by test_lines {n}", values)
    return Text("left out by test_lines at least {n}", values)


def chunk_states(task: Summary, lang: str) -> str:
    """`done 12, in work 2, ready 3`."""
    states = task.get("chunk_states") or {}
    shown = [f"{name(state, lang)} {numbers.count(n)}" for state, n in states.items() if n]
    return Text(", ").render(lang).join(shown)


def tokens(task: Summary, lang: str) -> str:
    """`1,200,000 in, 400,000 out`; empty while nothing is known."""
    used = task.get("tokens") or {}
    if not any(used.values()):
        return ""
    values = {key: numbers.count(used.get(key, 0)) for key in ("input", "output", "unknown")}
    if used.get("unknown"):
        return Text("{input} in, {output} out; not told by {unknown} answers", values).render(lang)
    return Text("{input} in, {output} out", values).render(lang)


def waits(task: Summary, lang: str, now: float) -> list[str]:
    """What the task waits for, one line each: since when, and when it tries again. `now` is wall time."""
    lines = []
    for waiting in task.get("waiting") or ():
        shown = Text.from_wire(waiting["text"])
        since, next_try = waiting.get("since"), waiting.get("next_try")
        if since is not None:
            shown = Text("{what} (for {time})", {"what": shown, "time": numbers.duration(now - since)})
        if next_try is not None and next_try > now:
            left = numbers.duration(next_try - now)
            shown = Text("{what}; next try in {time}", {"what": shown, "time": left})
        lines.append(shown.render(lang))
    return lines


def load(daemon: Load, lang: str) -> str:
    """CPU and memory of the daemon and its workers, and what the workers send and receive."""
    workers = daemon.get("workers") or []
    own = Text(
        "daemon {cpu:.0f}% CPU, {rss}",
        {"cpu": daemon.get("cpu") or 0.0, "rss": numbers.size(daemon.get("rss") or 0)},
    ).render(lang)
    if not workers:
        return own
    theirs = Text(
        "workers ({n}) {cpu:.0f}% CPU, {rss}",
        {
            "n": len(workers),
            "cpu": sum(worker.get("cpu") or 0.0 for worker in workers),
            "rss": numbers.size(sum(worker.get("rss") or 0 for worker in workers)),
        },
    ).render(lang)
    speeds = {
        "sent": numbers.size(sum(worker.get("sent_per_s") or 0 for worker in workers)),
        "received": numbers.size(sum(worker.get("received_per_s") or 0 for worker in workers)),
    }
    network = Text("network: {sent}/s sent, {received}/s received", speeds).render(lang)
    return f"{own} · {theirs} · {network}"


def fields(task: Summary, lang: str, now: float) -> list[Field]:
    """Everything about a task but its state and progress, as (label, value); what is unknown is absent."""
    states = chunk_states(task, lang)
    quota = task.get("quota") or {}
    rows: list[tuple[Text, str]] = [
        (Text("input written"), _written(task, lang)),
        (Text("records"), records(task, lang)),
        (Text("chunks"), states),
        (Text("batches"), batches(task, lang)),
        (Text("answers"), paths(task, lang)),
        (Text("tokens"), tokens(task, lang)),
        (Text("cost"), task_cost(task.get("cost"), lang)),
        (Text("requests"), _requests(task, lang)),
        (Text("runs"), runs(task, lang)),
        (Text("input read"), _input_read(task, lang)),
        (Text("quota"), " · ".join(f"{key}: {value}" for key, value in quota.items())),
        (Text("limits"), _shared(task, lang)),
        *((Text("waiting"), line) for line in waits(task, lang, now)),
    ]
    return [(label.render(lang), value) for label, value in rows if value]


def _shared(task: Summary, lang: str) -> str:
    """Whether other daemons of this user have a part of the account's limits."""
    others = task.get("daemons", 1) - 1
    if others < 1:
        return ""
    if others == 1:
        return Text("shared with 1 other daemon").render(lang)
    return Text("shared with {n} other daemons", {"n": others}).render(lang)


def _written(task: Summary, lang: str) -> str:
    """How far a source is, whose records are written into the task's folder first."""
    found = task.get("preparing")
    if not found:
        return ""
    values = {key: numbers.count(found.get(key) or 0) for key in ("written", "skipped", "total")}
    text = Text("{written} of {total} records", values) if found.get("total") else None
    shown = (text or Text("{written} records", values)).render(lang)
    if found.get("skipped"):
        shown += Text(", ").render(lang) + Text("{skipped} answered already", values).render(lang)
    return shown


def _input_read(task: Summary, lang: str) -> str:
    """`2.0 KiB / 4.0 KiB`, and where a cancelled task stopped reading."""
    read, unread = task.get("bytes") or {}, task.get("unread")
    parts = []
    if "read" in read and "total" in read:
        parts.append(f"{numbers.size(read['read'])} / {numbers.size(read['total'])}")
    if unread:
        line = numbers.count(unread["line"])
        parts.append(Text("not read: from line {line} on", {"line": line}).render(lang))
    return " · ".join(parts)


def _requests(task: Summary, lang: str) -> str:
    if task["state"] not in ("preparing", "running", "merging"):
        return ""
    if task.get("backend") == BATCH and not task.get("in_flight"):
        return ""  # online calls finish only what its batches left
    values = {"n": task.get("in_flight") or 0, "limit": task.get("concurrency") or 0}
    return Text("{n} in flight, at most {limit} at once", values).render(lang)
