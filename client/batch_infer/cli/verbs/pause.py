"""-pause: stop sending until -resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.cli.steering import show_state
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """Pause one task."""
    task_id = request.ids[0]
    with context.daemon_of_task(task_id) as peer:
        answer = peer.call(rpc.PAUSE, {"task_id": task_id})
    show_state(context, task_id, answer, as_json=request.as_json)
    return EXIT_DONE
