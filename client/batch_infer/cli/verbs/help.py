"""-help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.cli.help import help_text
from batch_infer.protocol.errors import EXIT_DONE

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:  # noqa: ARG001  help is the same for every request
    """Print the help in the language of the shell."""
    context.console.data(help_text(context.lang, context.console.columns()))
    return EXIT_DONE
