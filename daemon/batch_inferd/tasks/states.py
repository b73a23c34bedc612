"""The states of a task and the reasons for which it rests.

preparing ─▶ running ─▶ merging ─▶ completed | failed | cancelled
▲  │        │  ▲                   │
│  ▼        ▼  │                   │ -retry
└─ paused (reason) ◀───────────────┘ (back to running, next round)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from batch_infer.protocol.text import Text

PREPARING = "preparing"
RUNNING = "running"
MERGING = "merging"
PAUSED = "paused"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"

ENDED = frozenset({COMPLETED, FAILED, CANCELLED})
ACTIVE = frozenset({PREPARING, RUNNING, MERGING})

# The facts that another round of a task that has ended begins with.
AGAIN: dict[str, Any] = {
    "state": RUNNING,
    "reason": None,
    "ended": None,
    "identity": None,
    "cancel": False,
    "late": 0,
}

# Reasons that mend themselves: a client that waits goes on waiting.
SELF_MENDING = frozenset({"credit", "disk_full", "service"})


class Reason(NamedTuple):
    """Why a task is paused or failed: a code for programs, a text for people."""

    code: str
    text: Text

    def to_json(self) -> dict[str, Any]:
        """`{"code", "text"}` as stored and sent."""
        return {"code": self.code, "text": self.text.to_wire()}

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Reason | None:
        """The inverse of `to_json`."""
        return cls(str(data["code"]), Text.from_wire(data["text"])) if data else None
