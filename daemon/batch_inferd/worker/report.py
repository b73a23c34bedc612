"""Reports to the daemon: what changed, every 100 ms, and the log records, batched and bounded."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from batch_inferd.backends.traffic import TRAFFIC
from batch_inferd.logs.line import thread_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_inferd.seams.clock import Clock
    from batch_inferd.worker.chunk import LeasedChunk
    from batch_inferd.worker.gate import Gate

INTERVAL_S = 0.1
_LEASES_A_FRAME = 1000  # a lease takes some 300 bytes of a frame of 1 MiB
_LOG_BOUND = 500  # records between two reports, and as many errors; more are counted and dropped
_MESSAGE_CHARS = 1000


class Sender(Protocol):
    """Where reports go."""

    @property
    def idle(self) -> bool:
        """Whether all that was sent has been written."""

    def send(self, method: str, params: dict[str, Any]) -> None:
        """Queue a message."""


class LogBuffer:
    """Log records that wait for the next report."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: deque[dict[str, Any]] = deque()
        self._dropped = 0

    def add(self, level: int, task_id: str, chunk: int | None, message: str) -> None:
        """One line of a task's log; dropped and counted when too many wait, errors last."""
        if len(self._records) >= (_LOG_BOUND * 2 if level >= logging.ERROR else _LOG_BOUND):
            self._dropped += 1
            return
        self._records.append(
            {
                "level": level,
                "task": task_id,
                "chunk": chunk,
                "message": message[:_MESSAGE_CHARS],
                "thread": thread_name(),
                "t": self._clock.now(),
            }
        )

    def take(self) -> list[dict[str, Any]]:
        """What waits, at most a frame's worth."""
        records = [self._records.popleft() for _ in range(min(len(self._records), _LOG_BOUND // 2))]
        if self._dropped and records and not self._records:
            last = records[-1]
            message = f"{self._dropped} more log records were dropped"
            records.append({**last, "level": logging.WARNING, "message": message})
            self._dropped = 0
        return records


class Reporter:
    """Remembers what changed. Nothing is sent while the daemon has not read the last report."""

    def __init__(self, outbox: Sender, log: LogBuffer) -> None:
        self._outbox = outbox
        self._log = log
        self._changed: dict[str, LeasedChunk] = {}
        self._traffic = (0, 0)  # as it was told last

    def changed(self, chunk: LeasedChunk) -> None:
        """A chunk's counters changed."""
        self._changed[chunk.lease.lease] = chunk

    def forget(self, chunk: LeasedChunk) -> None:
        """Its lease ended: its last counters went with that message."""
        self._changed.pop(chunk.lease.lease, None)

    def flush(self, gates: Iterable[Gate], *, force: bool = False) -> None:
        """Send what changed since the last time."""
        if not (force or self._outbox.idle):
            return
        accounts = self._accounts(gates)
        leases = list(self._changed.items())
        self._changed.clear()
        traffic, told = TRAFFIC.totals(), self._traffic
        self._traffic = traffic
        news = {"traffic": list(traffic)} if traffic != told else {}
        for start in range(0, max(len(leases), 1 if accounts or news else 0), _LEASES_A_FRAME):
            part = {lease: c.counts.to_json() for lease, c in leases[start : start + _LEASES_A_FRAME]}
            self._outbox.send("report", {"leases": part, "accounts": {} if start else accounts, **news})
        self.flush_log()

    def flush_log(self) -> None:
        """Send the log records at once: what happened in a lease is told before its end is."""
        while records := self._log.take():
            self._outbox.send("log", {"records": records})

    def _accounts(self, gates: Iterable[Gate]) -> dict[str, Any]:
        reports = ((gate.fingerprint, gate.report()) for gate in gates)
        return {fingerprint: report for fingerprint, report in reports if report is not None}
