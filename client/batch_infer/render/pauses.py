"""What to do about a paused task: it depends on why it is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_infer.render.states import SELF_MENDING

if TYPE_CHECKING:
    from batch_infer.render.shapes import Summary

_RESUME = Text("to go on: batch_infer -resume {id}")
_FIXED = Text("once it is fixed: batch_infer -resume {id}")
_BY_CODE: dict[str, tuple[Text, ...]] = {
    "user": (_RESUME,),
    "budget": (),  # the reason itself says what to do
    "moved": (Text("to take it over: batch_infer -resume {id}"),),
    "io": (Text("once the disk is fixed: batch_infer -resume {id}"),),
    "bug": (Text("the log says more: batch_infer -logs {id}"), _RESUME),
}
_CONFIG = (Text("once the config is fixed: batch_infer -resume {id} -config FILE"),)
_INPUT = (
    Text("restore the input {path}, then: batch_infer -resume {id}"),
    Text("or submit the input as it is now under a new task-id"),
)
_OTHER = (
    _FIXED,
    Text("or, to run it another way: batch_infer -cancel {id}, and submit the input under a new task-id"),
)
_BY_CODE |= dict.fromkeys(("auth", "credential", "config"), _CONFIG)
_BY_CODE |= dict.fromkeys(("model", "batch_api"), _OTHER)
_BY_CODE |= dict.fromkeys(("input", "input_changed"), _INPUT)


def pause_steps(task: Summary) -> list[Text]:
    """One hint a line; none where the daemon goes on by itself."""
    reason = task.get("reason")
    code = reason["code"] if reason else ""
    if code in SELF_MENDING:
        return []
    values = {"id": task["task_id"], "path": task.get("input_path", "")}
    return [step._replace(params=values) for step in _BY_CODE.get(code, (_FIXED,))]
