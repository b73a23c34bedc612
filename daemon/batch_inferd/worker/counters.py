"""The counters of a lease: cumulative over the chunk, earlier journals included."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.backends.reply import Usage
    from batch_inferd.journal.reader import ChunkState


@dataclass(slots=True)
class Counters:
    """The COUNTERS message, without `unstarted`, which follows from the others."""

    input: int = 0
    blank: int = 0
    answered: int = 0
    error: int = 0
    missing: int = 0
    retries: int = 0  # failed attempts that used up a retry
    throttled: int = 0
    in_flight: int = 0
    waiting: int = 0  # sent before, and to be sent again
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_unknown: int = 0  # answers that did not tell both
    tokens_cached: int = 0  # of tokens_in
    batch_in: int = 0  # of tokens_in: what batches brought before; the next two likewise
    batch_out: int = 0
    batch_cached: int = 0

    @classmethod
    def from_journals(cls, state: ChunkState, open_records: int, blank: int) -> Counters:
        """What earlier leases of the chunk left."""
        return cls(
            input=open_records + len(state.terminals),
            blank=blank,
            answered=state.answered,
            error=state.error,
            missing=state.missing,
            retries=state.retries,
            throttled=state.failures["rate_limited"],
            tokens_in=state.tokens_in,
            tokens_out=state.tokens_out,
            tokens_unknown=state.tokens_unknown,
            tokens_cached=state.tokens_cached,
            batch_in=state.batch_in,
            batch_out=state.batch_out,
            batch_cached=state.batch_cached,
        )

    @property
    def open(self) -> int:
        """Records that have not ended."""
        return self.input - self.answered - self.error - self.missing

    def add_answer(self, usage: Usage) -> None:
        """One more answered."""
        self.answered += 1
        self.tokens_in += usage.tokens_in or 0
        self.tokens_out += usage.tokens_out or 0
        self.tokens_unknown += usage.tokens_in is None or usage.tokens_out is None
        self.tokens_cached += usage.tokens_cached or 0

    def to_json(self) -> dict[str, int]:
        """The COUNTERS message."""
        return asdict(self) | {"unstarted": max(0, self.open - self.in_flight - self.waiting)}
