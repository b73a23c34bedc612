"""-version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.render.public import SCHEMA
from batch_infer.version import __version__

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """Print the version of this program; a daemon's own stands in -daemon status."""
    if request.as_json:
        protocol = [rpc.PROTOCOL_MIN, rpc.PROTOCOL_MAX]
        context.console.json({"schema": SCHEMA, "version": __version__, "protocol": protocol})
    else:
        context.console.data(f"batch_infer {__version__}")
    return EXIT_DONE
