"""-cancel: end tasks, keeping what was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.cli.failures import show
from batch_infer.cli.several import ask_each, named
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE, BatchInferError
from batch_infer.render.public import SCHEMA
from batch_infer.render.states import answer_words

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """Cancel each task; one that cannot be is told, and does not spare the others."""
    console = context.console
    exit_code = EXIT_DONE
    results: list[dict[str, Any]] = []
    for task_id, answer in ask_each(context, request.ids, rpc.CANCEL):
        if isinstance(answer, BatchInferError):
            exit_code = max(exit_code, answer.exit_code)
            show(console, named(task_id, answer))
            results.append({"task_id": task_id, "state": None, "error": answer.code})
            continue
        results.append({"task_id": task_id, **answer, "error": None})
        if not request.as_json:
            console.data(console.text(answer_words(task_id, answer)))
    if request.as_json:
        console.json({"schema": SCHEMA, "tasks": results})
    return exit_code
