"""-doctor: what stands in the way of a task, asked of the daemon that would run it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from batch_infer.cli.submission import config_params, find_config, read_config
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE, ConfigError
from batch_infer.protocol.text import Text
from batch_infer.render.doctor_text import doctor_lines, public_doctor

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request

# A name that is not resolved, a connection that is not made and calls that are not answered take their
# time one after another; the daemon gives up on each.
_PATIENCE_S = 180.0


def run(context: Context, request: Request) -> int:
    """Print the checks; 2 when one failed. A config is sent as -pipeline sends it, where there is one."""
    path = find_config(context, request.config)
    named = request.config is not None
    config = read_config(path, named=named) if named or os.path.lexists(path) else None
    params: dict[str, Any] = {}
    with context.daemon() as peer:
        if config is not None:
            params = config_params(context, peer, path, config)
        answer = peer.call(rpc.DOCTOR, params, timeout=_PATIENCE_S)
    console = context.console
    if config is None:
        console.note(Text("there is no config file {path}; no service is checked", {"path": str(path)}))
    if request.as_json:
        console.json(public_doctor(answer, context.lang))
    else:
        for line in doctor_lines(answer["checks"], context.lang, console.encoding):
            console.data(line)
    return EXIT_DONE if answer["ok"] else ConfigError.exit_code
