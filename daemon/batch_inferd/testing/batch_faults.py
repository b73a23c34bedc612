"""What the batch controls remember: the counts that run down, and the outcomes still to be given."""

from __future__ import annotations

import random
from threading import Lock
from typing import TYPE_CHECKING

from batch_inferd.testing.errors import server_error

if TYPE_CHECKING:
    from batch_inferd.testing.batch_controls import Outcome
    from batch_inferd.testing.controls import Controls

_COUNTS = (
    "accept_then_reset",
    "create_5xx",
    "reject_create_429",
    "reject_create_token_limit",
    "drop_upload",
    "upload_5xx",
    "batch_truncate_download",
)


class BatchFaults:
    """What is left of each count and list. It starts anew when its control is set."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._left: dict[str, int] = {}
        self._calls: dict[str, int] = {}
        self._outcomes: list[Outcome] = []
        self._dice = random.Random(0)  # noqa: S311  repeatable is what is wanted

    def set(self, controls: Controls, changed: set[str]) -> None:
        """Take over what has changed."""
        with self._lock:
            self._left.update({name: getattr(controls, name) for name in _COUNTS if name in changed})
            if "batch_calls_500" in changed:
                self._calls = {str(route): count for route, count in controls.batch_calls_500.items()}
            if "seed" in changed:
                self._dice = random.Random(controls.seed)  # noqa: S311  as above
            if "batch_outcomes" in changed:
                self._outcomes = list(controls.batch_outcomes)

    def take(self, name: str) -> bool:
        """Whether this call is one of those that the count `name` is for."""
        with self._lock:
            return _take(self._left, name)

    def check_route(self, route: str) -> None:
        """Raises ApiError (500) when a call of this route is to fail."""
        with self._lock:
            if _take(self._calls, route):
                raise server_error()

    def outcome(self, controls: Controls) -> Outcome:
        """How the batch that is being created ends."""
        with self._lock:
            return self._outcomes.pop(0) if self._outcomes else controls.batch_outcome

    def latency(self, controls: Controls) -> float:
        """How many seconds the batch that is being created takes."""
        low, high = controls.batch_latency_range
        with self._lock:
            return low if low == high else self._dice.uniform(low, high)


def _take(counts: dict[str, int], name: str) -> bool:
    if counts.get(name, 0) <= 0:
        return False
    counts[name] -= 1
    return True
