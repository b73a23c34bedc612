"""What -pause, -resume and -retry print: the task's new state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_infer.render.public import SCHEMA
from batch_infer.render.states import answer_words

if TYPE_CHECKING:
    from batch_infer.cli.context import Context


def show_state(context: Context, task_id: str, answer: dict[str, Any], *, as_json: bool) -> None:
    """The answer to a request that changed a task's state, on stdout."""
    console = context.console
    if not as_json:
        console.data(console.text(answer_words(task_id, answer)))
        return
    shown = {"schema": SCHEMA, "task_id": task_id, **answer}
    reason = answer.get("reason")
    if reason:
        shown |= {"reason": reason["code"], "reason_text": console.text(Text.from_wire(reason["text"]))}
    if "warnings" in answer:
        shown["warnings"] = [console.text(Text.from_wire(warning)) for warning in answer["warnings"]]
    console.json(shown)
