"""What answers were billed for, as the services counted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Used(NamedTuple):
    """Answers and their tokens. `unknown` answers did not tell all of theirs.

    `cached` of the `input` came from the service's cache. What begins with `batch_` is the part of it that
    answers of upstream batches have.
    """

    answered: int = 0
    unknown: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    batch_input: int = 0
    batch_cached: int = 0
    batch_output: int = 0

    @classmethod
    def of(cls, count: Callable[[str], int]) -> Self:
        """From the counts of a chunk or a task: `count` gives one by its name in task.db."""
        return cls(*(count(name) for name in _NAMES))

    def __add__(self, other: object) -> Used:
        """Both together."""
        if not isinstance(other, Used):
            return NotImplemented
        return Used(*(a + b for a, b in zip(self, other, strict=True)))

    def __sub__(self, other: Used) -> Used:
        """What this has more than `other`."""
        return Used(*(a - b for a, b in zip(self, other, strict=True)))


# The names that `Used` has in task.db, in its order.
_NAMES = (
    "answered",
    "tokens_unknown",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "batch_in",
    "batch_cached",
    "batch_out",
)
