"""The interface of a provider's Batch API: what an adapter does, and the shapes it speaks in.

An adapter makes each call once: nothing is retried, and nothing waits. Every method raises NotSent or a
ProviderError; see `errors`. One object belongs to one event loop.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec

from batch_inferd.backends.batch.errors import (
    BatchProblem,
    Blocked,
    Capacity,
    NotFound,
    ProviderError,
    Refused,
    Throttled,
    Unsettled,
    error_from_wire,
    error_to_wire,
)
from batch_inferd.backends.transport import NotSent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

__all__ = [
    "BatchOrder",
    "BatchProblem",
    "BatchProvider",
    "BatchState",
    "BatchStatus",
    "Blocked",
    "Capacity",
    "NotFound",
    "NotSent",
    "ProviderError",
    "Refused",
    "ResultLine",
    "ResultRef",
    "Throttled",
    "Unsettled",
    "Upload",
    "error_from_wire",
    "error_to_wire",
]

MAX_RESULT_BYTES = 4 * 2**30
TOKEN_KEY = "batch_infer_token"  # noqa: S105  the metadata's name for a submission's token


class BatchState(enum.StrEnum):
    """Where a batch is, in one vocabulary for all providers."""

    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come of the batch."""
        return self in _FINAL


_FINAL = frozenset({BatchState.COMPLETED, BatchState.FAILED, BatchState.EXPIRED, BatchState.CANCELLED})


class ResultRef(msgspec.Struct, frozen=True):
    """Where results lie: `ref` is a file's id, a URL, or whatever the adapter's `download` takes."""

    kind: Literal["output", "errors"]
    ref: str


class BatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a batch. Times are seconds since 1970; None is: the service does not say."""

    id: str
    state: BatchState
    raw_state: str  # the service's own word; one that nobody knows is taken for running
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    created: float | None = None
    expires: float | None = None
    ended: float | None = None
    results: list[ResultRef] = []
    problems: list[BatchProblem] = []  # of its validation, at most 50,000
    token: str | None = None  # of the order it was created with
    input_ref: str | None = None
    unknown: bool = False  # nobody knows its state


class BatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch is created from: an upload, or the packed file where requests go inline."""

    token: str  # unique in the world
    input_ref: str | None
    requests_path: str | None
    url: str
    model: str
    window: str
    title: str  # for people who look at the provider's pages


class Content(Protocol):
    """Bytes that are read once, in threads."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end. Blocks. Raises OSError, ProviderError."""

    def close(self) -> None:
        """Give it back. Does not block."""


class Upload(NamedTuple):
    """A packed file on its way. `filename` holds the order's token: a lost upload is found by it.

    What is sent are the `size` bytes of the file at `path`, or those of what `opened` gives (it blocks).
    """

    path: Path
    filename: str
    size: int
    opened: Callable[[], Content] | None = None


class ResultLine(msgspec.Struct):
    """A line of a result file. `code` and `message` are of its error, empty where there is none."""

    key: str | None  # the id that was sent, None where the line names none
    status: int | None = None
    request_id: str | None = None
    body: bytes | None = None  # raw JSON
    code: str = ""
    message: str = ""


class BatchProvider(Protocol):
    """One account's Batch API."""

    def encode_line(self, key: bytes, url: str, body: bytes) -> bytes:
        """The line of a packed file, with its newline. `key` is ASCII such as b"r12", `body` raw JSON."""

    def decode_line(self, line: bytes) -> ResultLine:
        """Read a line of a result file. Raises ValueError: it cannot be read."""

    async def upload(self, file: Upload, progress: Callable[[int], None]) -> str | None:
        """Send a file from the disk; `progress` is told the bytes sent so far. Its id, None: it goes inline.

        Raises OSError as well, when the file cannot be read.
        """

    async def find_upload(self, file: Upload) -> str | None:
        """The newest upload of this name and size."""

    async def create(self, order: BatchOrder) -> BatchStatus:
        """Start a batch. An Unsettled one may exist."""

    async def retrieve(self, batch_id: str) -> BatchStatus:
        """Look at a batch."""

    def recent(self, since: float) -> AsyncIterator[BatchStatus]:
        """The account's batches, newest first, back to those created before `since`."""

    async def cancel(self, batch_id: str) -> BatchStatus | None:
        """Ask a batch to end. None: it has ended already, or the service did not say how it is."""

    async def download(
        self,
        ref: ResultRef,
        write: Callable[[bytes], None],
        opened: Callable[[], None],
        *,
        max_bytes: int = MAX_RESULT_BYTES,
    ) -> int:
        """Stream a result file into `write`; returns its bytes. `opened` is called once it begins.

        Holds a megabyte at most. A file that ends in its middle is Unsettled; one that is larger than
        `max_bytes`, unpacked, is Refused. Raises whatever `write` raises.
        """

    async def delete_upload(self, input_ref: str) -> None:
        """Remove an upload of ours; one that is gone is fine."""

    async def models(self) -> list[str] | None:
        """The models that the credential may use, None where the service has no list."""

    async def ping_batches(self) -> None:
        """One cheap call that shows whether the Batch API answers."""

    async def close(self) -> None:
        """Give up all connections."""
