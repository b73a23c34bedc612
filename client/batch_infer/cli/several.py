"""The same request for several tasks: what goes wrong with one does not spare the others, and is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import BatchInferError, DaemonUnavailable, TaskConflict, TaskNotFound
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_infer.cli.context import Context

_PATIENCE_S = 60.0
_SHORT_S = 5.0  # for a daemon that left the request before unanswered: most likely it answers nobody


def ask_each(
    context: Context, ids: Iterable[str], method: str, **params: Any
) -> Iterator[tuple[str, dict[str, Any] | BatchInferError]]:
    """Each task-id once, with the answer about it, or with the error that it met instead."""
    patience = _PATIENCE_S
    with context.daemon_of_tasks() as peer:
        for task_id in dict.fromkeys(ids):
            answer: dict[str, Any] | BatchInferError
            try:
                context.check_known(task_id)
                if peer is None:
                    raise context.not_found(task_id)
                answer = peer.call(method, {"task_id": task_id, **params}, timeout=patience)
            except BatchInferError as error:
                answer = error
                if isinstance(error, DaemonUnavailable):
                    patience = _SHORT_S
            yield task_id, answer


def named(task_id: str, error: BatchInferError) -> BatchInferError:
    """The error, with a text that says which task it is about."""
    if isinstance(error, TaskNotFound | TaskConflict):  # these name it
        return error
    return BatchInferError(
        Text("task {id}: {error}", {"id": task_id, "error": error.text}), hints=error.hints
    )
