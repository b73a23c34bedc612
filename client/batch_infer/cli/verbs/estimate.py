"""-estimate: what an input would cost, asked of the daemon before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from batch_infer.cli.sources import check_named, overrides_params, taken_input
from batch_infer.cli.submission import config_params, find_config, read_config
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.protocol.text import Text
from batch_infer.render.cost_text import estimate_lines
from batch_infer.render.public import SCHEMA

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request
    from batch_infer.render.shapes import Estimate

_PATIENCE_S = 180.0  # a large input on a slow disk, and the look-up of the prices


def run(context: Context, request: Request) -> int:
    """Print the estimate."""
    config_path = find_config(context, request.config)
    config = read_config(config_path, named=request.config is not None)
    params: dict[str, Any] = overrides_params(request.overrides)
    check_named(request.input)
    with taken_input(context, request.input) as given, context.daemon() as peer:
        params |= given
        asked = {"input": given["input"], "overrides": params.get("overrides", {})}
        params |= config_params(context, peer, config_path, config, asked)
        found = peer.call(rpc.ESTIMATE, params, timeout=_PATIENCE_S)
    notes = [Text.from_wire(note) for note in found.pop("notes")]
    console = context.console
    if request.as_json:
        console.json({"schema": SCHEMA, **found, "notes": [console.text(note) for note in notes]})
        return EXIT_DONE
    for line in estimate_lines(cast("Estimate", found), context.lang):
        console.data(line)
    for note in notes:
        console.note(note)
    return EXIT_DONE
