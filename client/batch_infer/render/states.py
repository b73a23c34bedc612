"""The states of tasks and chunks: their names for people, and what they mean for a waiting client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import EXIT_DONE, EXIT_DONE_WITH_ERRORS, TaskEnded
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from batch_infer.render.shapes import Summary

ENDED = frozenset({"completed", "failed", "cancelled"})
# Reasons of a pause that go away without a person: the daemon goes on by itself.
SELF_MENDING = frozenset({"network", "credit", "disk_full"})

_NAMES = {
    "preparing": Text("preparing"),
    "running": Text("running"),
    "merging": Text("merging"),
    "completed": Text("completed"),
    "failed": Text("failed"),
    "cancelled": Text("cancelled"),
    "paused": Text("paused"),
    "ready": Text("ready"),
    "leased": Text("in work"),
    "done": Text("done"),
}
_CANCELLING = Text("being cancelled")

# Codes of reasons and of waiting, as they stand behind a state in a table; others are shown as they are.
_CODES = {
    "auth": Text("auth"),
    "batch_api": Text("batch_api"),
    "bug": Text("bug"),
    "cancel": Text("cancel"),
    "capacity": Text("capacity"),
    "config": Text("config"),
    "credential": Text("credential"),
    "credit": Text("credit"),
    "disk_full": Text("disk_full"),
    "download": Text("download"),
    "identity": Text("identity"),
    "late": Text("late"),
    "input": Text("input"),
    "input_changed": Text("input_changed"),
    "io": Text("io"),
    "model": Text("model"),
    "moved": Text("moved"),
    "network": Text("network"),
    "rate_limit": Text("rate_limit"),
    "retention": Text("retention"),
    "service": Text("service"),
    "unsettled": Text("unsettled"),
    "user": Text("user"),
    "worker": Text("worker"),
}
# What a task that is well waits for: not worth a word behind the state.
_ROUTINE = frozenset({"retry", "pool", "batches"})


def name(state: str, lang: str) -> str:
    """A state in the language of the shell; as it is when unknown."""
    return _NAMES[state].render(lang) if state in _NAMES else state


def reason_text(task: Summary, lang: str) -> str:
    """Why the task is paused or failed; empty when there is no reason."""
    reason = task.get("reason")
    return Text.from_wire(reason["text"]).render(lang) if reason else ""


def state_line(task: Summary, lang: str) -> str:
    """The state with its reason: `paused: the password is refused`."""
    why = reason_text(task, lang)
    state = short_state(task, lang)
    return explained(state, why, lang) if why else state


def explained(what: str, why: str, lang: str) -> str:
    """`what: why`, with the colon of the language."""
    return Text("{what}: {why}", {"what": what, "why": why}).render(lang)


def short_state(task: Summary, lang: str) -> str:
    """The state in a word; a task that is being cancelled says so until it is."""
    if task.get("cancelling") and not has_ended(task):
        return _CANCELLING.render(lang)
    return name(task["state"], lang)


def coded_state(task: Summary, lang: str) -> str:
    """`paused (auth)`, `running (network)`: with the code of its reason, or of what it waits for."""
    reason = task.get("reason")
    waiting = [code for code in waiting_codes(task) if code not in _ROUTINE]
    code = reason["code"] if reason else next(iter(waiting), "")
    state = short_state(task, lang)
    if not code or (has_ended(task) and not reason):
        return state
    shown = _CODES[code].render(lang) if code in _CODES else code
    return Text("{state} ({code})", {"state": state, "code": shown}).render(lang)


def waiting_codes(task: Summary) -> tuple[str, ...]:
    """The codes of what the task waits for, each once, in the order of the alphabet."""
    return tuple(sorted({waiting["code"] for waiting in task.get("waiting") or ()}))


def time_left(task: Summary) -> float | None:
    """Seconds until the task's end; None where nobody can tell, as while the network is down."""
    if task["state"] not in ("preparing", "running") or "network" in waiting_codes(task):
        return None
    return task.get("eta_s")


def has_ended(task: Summary) -> bool:
    """Whether the task is at its end."""
    return task["state"] in ENDED


def needs_person(task: Summary) -> bool:
    """Whether the task is paused for something that only a person can mend."""
    reason = task.get("reason")
    return task["state"] == "paused" and not (reason and reason["code"] in SELF_MENDING)


def exit_code(task: Summary) -> int:
    """What a client that waited for this task ends with: 0, 1 or 5."""
    if task["state"] != "completed":
        return TaskEnded.exit_code
    counts = task["counts"]
    unanswered = counts.get("error", 0) + counts.get("missing", 0)
    return EXIT_DONE_WITH_ERRORS if unanswered else EXIT_DONE


def answer_words(task_id: str, answer: dict[str, Any]) -> Text:
    """`task demo: paused`, by the answer to a request that changed a task's state."""
    state = _NAMES.get(answer["state"], answer["state"])
    if answer.get("cancelling") and answer["state"] not in ENDED:
        state = _CANCELLING
    reason = answer.get("reason")
    if reason:
        values = {"id": task_id, "state": state, "reason": Text.from_wire(reason["text"])}
        return Text("task {id}: {state}: {reason}", values)
    return Text("task {id}: {state}", {"id": task_id, "state": state})
