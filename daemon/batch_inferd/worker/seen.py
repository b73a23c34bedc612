"""What happened on an account in one worker since its last report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUOTA_HEADERS = 16
_QUOTA_CHARS = 64
_QUOTA_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_LIMITS = ("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit")


class Seen:
    """Counts of calls; they start at nothing after each report."""

    __slots__ = (
        "broken",
        "failed",
        "flying",
        "fresh",
        "full",
        "ok",
        "owed",
        "paced",
        "peak_in_flight",
        "quota",
        "retry_after",
        "sent",
        "throttled",
    )

    def __init__(self, in_flight: int = 0) -> None:
        self.sent = 0
        self.ok = 0
        self.owed = 0.0  # tokens that this worker, without a share of the rate, does not pay for
        self.throttled = 0  # 429s
        self.fresh = 0  # those that are no echoes: the account has to become slower
        self.flying = 0  # calls in flight when the last of these came
        self.failed = 0  # otherwise
        self.broken = 0  # of these, by no fault of their records
        self.retry_after: float | None = None  # seconds, as the service said
        self.peak_in_flight = in_flight
        self.paced = 0  # looks for a call that found it too early
        self.full = 0  # calls that took the last free slot
        self.quota: dict[str, str] = {}

    @property
    def any(self) -> bool:
        """Whether a call ended, or something is handed over."""
        return bool(self.ok or self.throttled or self.failed or self.owed)

    def take_quota(self, headers: Mapping[str, str]) -> None:
        """Keep a reply's headers on the account's limits: of one reply a report, as all say the same."""
        if not self.quota:
            found = [
                (name, value[:_QUOTA_CHARS])
                for name, value in headers.items()
                if name.startswith(_QUOTA_PREFIXES)
            ]
            self.quota = dict(found[:_QUOTA_HEADERS]) or {"": ""}

    @property
    def names_limit(self) -> bool:
        """Whether the headers that were kept name a limit of calls."""
        return any(name in self.quota for name in _LIMITS)

    def to_json(self) -> dict[str, Any]:
        """The counts of the report; `quota` without what stands for none."""
        counts: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        counts["quota"] = {name: value for name, value in self.quota.items() if name}
        return counts
