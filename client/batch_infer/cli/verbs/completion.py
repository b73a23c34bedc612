"""-completion: print the script for a shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import EXIT_DONE

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request

_SCRIPTS = Path(__file__).resolve().parent.parent.parent / "completion"


def run(context: Context, request: Request) -> int:
    """Print it."""
    script = _SCRIPTS / f"batch_infer.{request.choice}"
    context.console.data(script.read_text(encoding="utf-8").rstrip("\n"))
    return EXIT_DONE
