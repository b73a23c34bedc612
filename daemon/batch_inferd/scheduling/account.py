"""One account: a credential on a service, with the limits that all tasks on it share."""

from __future__ import annotations

from typing import Any

from batch_infer.protocol.text import Text
from batch_inferd.scheduling.aimd import Aimd
from batch_inferd.scheduling.slots import Slots

PROBE_FIRST_S = 30.0
PROBE_MAX_S = 600.0


class Account:
    """The controller of an account: its window, its hold after a 429, its credit probes."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._hold = 0.0  # monotonic, from Retry-After
        self.hold_until = 0.0  # the same as wall time, as it was when it was asked for
        self.quota: dict[str, str] = {}  # the x-ratelimit headers seen last
        self.waiting: dict[str, Any] | None = None  # what a worker's calls on it wait for
        self.probe_at: float | None = None  # monotonic; credit is gone until then
        self.probing = False
        self.slots = Slots()
        self.blocked = False  # the credential was refused: nothing is sent until a task is resumed
        self.rpm: float | None = None
        self._probe_interval = PROBE_FIRST_S
        self._window = Aimd(1, 1)
        self._bounds = (0, 0)

    def set_limits(self, limits: list[tuple[int, int, float | None]]) -> None:
        """From (concurrency, max_concurrency, rpm) of each task that runs: the strictest of each holds."""
        if not limits:
            return
        maximum = min(limit[1] for limit in limits)
        start = min(maximum, max(limit[0] for limit in limits))
        self.rpm = min((limit[2] for limit in limits if limit[2]), default=None)
        if self._bounds == (0, 0):
            self._window = Aimd(start, maximum)
        elif self._bounds != (start, maximum):
            self._window.set_bounds(start, maximum)
        self._bounds = (start, maximum)

    @property
    def window(self) -> int:
        """Calls that may be in flight now: none while it is refused, one while the credit is probed."""
        if self.blocked or self.probe_at is not None:
            return 0
        return 1 if self.probing else self._window.window

    def observe(self, seen: dict[str, Any], wall: float, monotonic: float) -> None:
        """A worker's report on the account (deltas): see the worker's `report` message."""
        self._window.observe(
            ok=int(seen.get("ok", 0)),
            throttled=int(seen.get("throttled", 0)),
            peak=int(seen.get("peak_in_flight", 0)),
            now=monotonic,
        )
        retry_after = seen.get("retry_after")
        if retry_after and monotonic + float(retry_after) > self._hold:
            self._hold = monotonic + float(retry_after)
            self.hold_until = wall + float(retry_after)
        self.waiting = seen.get("waiting")
        self.quota.update(seen.get("quota") or {})
        if seen.get("ok"):
            self.credit_back()

    def is_held(self, monotonic: float) -> bool:
        """Whether the service asked to wait still."""
        return self._hold > monotonic

    def credit_gone(self, monotonic: float) -> float:
        """The service says that the credit is spent; returns the seconds until the next probe."""
        if self.probing:
            self._probe_interval = min(self._probe_interval * 2, PROBE_MAX_S)
        self.probing = False
        self.probe_at = monotonic + self._probe_interval
        return self._probe_interval

    def credit_back(self) -> None:
        """Something was paid for: if the credit was in doubt, it no longer is."""
        if self.probing:
            self.probing = False
            self._probe_interval = PROBE_FIRST_S

    def probe_soon(self, monotonic: float) -> None:
        """A task was found that waits for credit: try it without much delay."""
        if self.probe_at is None and not self.probing:
            self.probe_at = monotonic

    def unblock(self) -> None:
        """A person submits or resumes a task on it: try at once."""
        self.blocked = False
        self.probe_at = None

    def start_probe(self) -> None:
        """Let one call through at a time, until one is answered."""
        self.probe_at = None
        self.probing = True

    def waiting_text(self, monotonic: float) -> dict[str, Any] | None:
        """What calls on it wait for, in the shape of a summary's `waiting`."""
        if self.waiting and self.waiting.get("code") == "network":
            text = Text(
                "the network is down: {detail}; waiting, and going on by itself when it returns",
                {"detail": Text.from_wire(self.waiting.get("text"))},
            )
            return self.waiting | {"text": text.to_wire()}
        if self.waiting:
            return self.waiting
        if self.is_held(monotonic):
            return {
                "code": "rate_limit",
                "text": Text("the service asked to wait (rate limit)").to_wire(),
                "since": None,
                "next_try": self.hold_until,
            }
        return None
