"""How fast a worker process sends and receives, by the sums that it reports."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

WINDOW_S = 5.0
_STEP_S = 0.25  # reports that come sooner are one sample
_SHORTEST_S = 1.0  # what came at once is not shown as a rate that nobody had


class _Sample(NamedTuple):
    at: float
    sent: int
    received: int


class Bandwidth:
    """Bytes a second over the last five seconds. Times are monotonic seconds of one clock.

    A process reports soon after its sums have changed, so between two reports nothing was transferred.
    """

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque((_Sample(float("-inf"), 0, 0),))

    def reported(self, sent: int, received: int, now: float) -> None:
        """The sums at `now`. Seats of a process report them side by side: an older report changes nothing."""
        last = self._samples[-1]
        if sent <= last.sent and received <= last.received:
            return
        sample = _Sample(now, max(sent, last.sent), max(received, last.received))
        if len(self._samples) > 1 and now - self._samples[-2].at < _STEP_S:
            self._samples[-1] = sample
        else:
            self._samples.append(sample)
        self._forget(now)

    def rates(self, now: float) -> tuple[float, float]:
        """Bytes a second that were sent, and received, of late."""
        self._forget(now)
        first, last = self._samples[0], self._samples[-1]
        since = self._samples[1].at if len(self._samples) > 1 else now
        seconds = min(WINDOW_S, max(_SHORTEST_S, now - since))
        return (last.sent - first.sent) / seconds, (last.received - first.received) / seconds

    def _forget(self, now: float) -> None:
        """Keep one sample from before the window, for what the others are more than."""
        while len(self._samples) > 1 and self._samples[1].at <= now - WINDOW_S:
            self._samples.popleft()
