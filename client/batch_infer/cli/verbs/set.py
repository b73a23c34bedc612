"""-set: change settings of tasks while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.cli.failures import show
from batch_infer.cli.settings import parse_settings
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import (
    EXIT_DONE,
    BatchInferError,
    ConfigError,
    DaemonUnavailable,
    TaskConflict,
    TaskNotFound,
)
from batch_infer.protocol.text import Text
from batch_infer.render.public import SCHEMA
from batch_infer.render.setting_text import change_words

if TYPE_CHECKING:
    from batch_infer.cli.context import Context, Peer
    from batch_infer.cli.request import Request
    from batch_infer.render.console import Console


def run(context: Context, request: Request) -> int:
    """Change each task; one that cannot be changed is told, and does not spare the others."""
    console = context.console
    settings = parse_settings(request.settings)
    exit_code = EXIT_DONE
    results: list[dict[str, Any]] = []
    said: list[Any] = []
    lost: DaemonUnavailable | None = None
    with context.daemon_of_tasks() as peer:
        for task_id in dict.fromkeys(request.ids):
            try:
                if lost is not None:
                    raise lost
                answer = _change(context, peer, task_id, settings)
            except BatchInferError as error:
                if isinstance(error, DaemonUnavailable):
                    lost = error  # whoever is asked next would only wait for nothing
                exit_code = max(exit_code, error.exit_code)
                _tell(console, task_id, error, said)
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


def _change(context: Context, peer: Peer | None, task_id: str, settings: dict[str, str]) -> dict[str, Any]:
    context.check_known(task_id)
    if peer is None:
        raise context.not_found(task_id)
    return peer.call(rpc.SET_OPTIONS, {"task_id": task_id, "settings": settings})


def _tell(console: Console, task_id: str, error: BatchInferError, said: list[Any]) -> None:
    """What is wrong with a task, by its name; what is wrong with the settings once for all tasks."""
    if isinstance(error, ConfigError):
        if error.data in said:
            return
        said.append(error.data)
    elif not isinstance(error, TaskNotFound | TaskConflict):  # these name it
        text = Text("task {id}: {error}", {"id": task_id, "error": error.text})
        error = BatchInferError(text, hints=error.hints)
    show(console, error)
