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
    return f"{state}: {why}" if why else state


def short_state(task: Summary, lang: str) -> str:
    """The state in a word; a task that is being cancelled says so until it is."""
    if task.get("cancelling") and not has_ended(task):
        return _CANCELLING.render(lang)
    return name(task["state"], lang)


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
