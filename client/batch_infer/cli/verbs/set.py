"""-set: change settings of tasks while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.cli.failures import show
from batch_infer.cli.settings import parse_settings
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE, TaskConflict, TaskNotFound
from batch_infer.protocol.text import Text
from batch_infer.render.public import SCHEMA
from batch_infer.render.setting_text import change_words

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """Change each task; one that cannot be changed is told, and does not spare the others."""
    console = context.console
    settings = parse_settings(request.settings)
    exit_code = EXIT_DONE
    results: list[dict[str, Any]] = []
    with context.daemon_of_tasks() as peer:
        for task_id in dict.fromkeys(request.ids):
            try:
                context.check_known(task_id)
                if peer is None:
                    raise context.not_found(task_id)
                answer = peer.call(rpc.SET_OPTIONS, {"task_id": task_id, "settings": settings})
            except (TaskNotFound, TaskConflict) as error:
                exit_code = show(console, error)
                results.append(
                    {"task_id": task_id, "state": None, "changes": [], "warnings": [], "error": error.code}
                )
                continue
            warnings = [Text.from_wire(warning) for warning in answer.get("warnings", ())]
            for warning in warnings:
                console.warning(warning)
            shown = [console.text(warning) for warning in warnings]
            results.append({"task_id": task_id, **answer, "warnings": shown, "error": None})
            if not request.as_json:
                for line in change_words(task_id, answer["changes"], console.lang):
                    console.data(line)
    if request.as_json:
        console.json({"schema": SCHEMA, "tasks": results})
    return exit_code
