"""How an error looks: `error:`, the problems one a line, then `hint:` lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.errors import BatchInferError, ConfigError

if TYPE_CHECKING:
    from batch_infer.render.console import Console


def show(console: Console, error: BatchInferError) -> int:
    """Print an error on stderr; its exit code."""
    console.error(error.text)
    if isinstance(error, ConfigError):
        for problem in error.problems:
            console.tell(problem)
    for hint in error.hints:
        console.hint(hint)
    return error.exit_code
