"""-set: change settings of tasks while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.cli.failures import show
from batch_infer.cli.settings import parse_settings
from batch_infer.cli.several import ask_each, named
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE, BatchInferError, ConfigError
from batch_infer.protocol.text import Text
from batch_infer.render.public import SCHEMA
from batch_infer.render.setting_text import change_words

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request
    from batch_infer.render.console import Console


def run(context: Context, request: Request) -> int:
    """Change each task; one that cannot be changed is told, and does not spare the others."""
    console = context.console
    settings = parse_settings(request.settings)
    exit_code = EXIT_DONE
    results: list[dict[str, Any]] = []
    said: list[Any] = []
    for task_id, answer in ask_each(context, request.ids, rpc.SET_OPTIONS, settings=settings):
        if isinstance(answer, BatchInferError):
            exit_code = max(exit_code, answer.exit_code)
            _tell(console, task_id, answer, said)
            results.append(
                {"task_id": task_id, "state": None, "changes": [], "warnings": [], "error": answer.code}
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


def _tell(console: Console, task_id: str, error: BatchInferError, said: list[Any]) -> None:
    """What is wrong with a task, by its name; what is wrong with the settings once for all tasks."""
    if not isinstance(error, ConfigError):
        show(console, named(task_id, error))
    elif error.data not in said:
        said.append(error.data)
        show(console, error)
