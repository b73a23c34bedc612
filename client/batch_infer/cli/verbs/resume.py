"""-resume: go on with a paused task, with a mended config when one is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.cli.environment import proxies
from batch_infer.cli.settings import settings_params
from batch_infer.cli.steering import show_state
from batch_infer.cli.submission import config_params, find_config, read_config
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE, TaskEnded
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """Resume one task; 5 when it cannot go on yet.

    Only -config and flags such as -concurrency change its config; the proxies of the shell are sent in
    any case.
    """
    task_id = request.ids[0]
    path = find_config(context, request.config)
    config = read_config(path, named=True) if request.config else None
    params: dict[str, Any] = {"task_id": task_id, "proxy": proxies(context.environ)}
    params |= settings_params(request.settings)
    with context.daemon_of_task(task_id) as peer:
        if config is not None:
            params |= config_params(context, peer, path, config)
        answer = peer.call(rpc.RESUME, params)
    for warning in answer.get("warnings", ()):
        context.console.warning(Text.from_wire(warning))
    show_state(context, task_id, answer, as_json=request.as_json)
    return TaskEnded.exit_code if answer["state"] == "paused" else EXIT_DONE
