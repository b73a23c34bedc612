"""A submission: one upstream batch as the daemon knows it, from the packed file to its collected results.

    packed ─▶ uploaded ─▶ creating ─▶ live ─▶ ended ─▶ collected
                 ▲  ▲        │  ▲       │       └────▶ refused (its lines are free again)
                 │  │        ▼  │       │
                 │  └── unsettled       │
                 └──────────────────────┘ the account's queue was full

`creating` is the committed intent to create: found after a crash, it is unsettled. `dropped` is the end
of a submission that was never created.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from batch_inferd.store.submissions import CLOSED, Lines, count_lines

if TYPE_CHECKING:
    from batch_infer.protocol.text import Text
    from batch_inferd.backends.batch.provider import BatchProblem, BatchStatus
    from batch_inferd.store.submissions import SubmissionRow

PACKED = "packed"
UPLOADED = "uploaded"
CREATING = "creating"
UNSETTLED = "unsettled"
LIVE = "live"
ENDED = "ended"
COLLECTED = "collected"
REFUSED = "refused"
DROPPED = "dropped"

UNCREATED = frozenset({PACKED, UPLOADED})
BEFORE_LIVE = frozenset({PACKED, UPLOADED, CREATING, UNSETTLED})
MAYBE_CREATED = frozenset({CREATING, UNSETTLED})

LOSS_WARNING_S = 7 * 86400.0  # before results are removed at the provider, people are told
BY_TASK, BY_DEADLINE = "task", "deadline"  # who cancelled a batch upstream


class MostTokens(msgspec.Struct, frozen=True):
    """The most tokens that a packed file can have, and any one line of it."""

    input: int
    output: int
    line_input: int
    line_output: int


class Detail(msgspec.Struct):
    """What is stored beside the columns. Times are seconds since 1970."""

    file: str  # the packed file, relative to the task's folder
    bytes: int  # as they are sent
    requests: int
    tokens: int  # estimated input tokens
    url: str
    model: str
    round: int
    holed: bool = False  # its images are not in the file, see `worker.batch.holed`
    depth: int = 0  # how often its lines were halved since a refusal that named none
    family: int = 0  # the submission that was halved first; 0: none
    former: list[str] = []  # upstream batches of this submission that came to nothing
    alone: int = 0  # times in a row that the queue was full although nothing else of ours was in it
    raw_state: str | None = None
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    asked: float | None = None  # when the create was sent
    ran: bool = False  # it was seen beyond its validation
    submitted: float | None = None
    expires: float | None = None
    ended: float | None = None
    end_state: str = ""  # the provider's last state, in our words
    outputs: list[tuple[str, str]] = []  # kind and reference of each result file
    cancel: str = ""  # who asked the provider to cancel it
    cancelled_at: float | None = None
    message: str = ""  # what the provider says of a batch that failed
    results: dict[str, int] | None = None
    upload_left: bool = False  # closed, and our upload is still at the provider
    most: MostTokens | None = None  # None: it was packed without a budget
    unsure: bool = False  # it was given up: nobody knows what it has cost
    charged: int | None = None  # closed: what it counts in the task's budget, in nano units


class Wait:
    """What a submission waits for: shown, never stored."""

    def __init__(self, code: str, text: Text, since: float, next_try: float | None = None) -> None:
        self.code = code
        self.text = text
        self.since = since
        self.next_try = next_try

    def to_json(self) -> dict[str, Any]:
        """As in a summary's `waiting`."""
        return {
            "code": self.code,
            "text": self.text.to_wire(),
            "since": self.since,
            "next_try": self.next_try,
        }


class Submission:
    """One that has not ended, in memory. There are at most a few hundred of them at a time."""

    def __init__(
        self,
        number: int,
        token: str,
        state: str,
        upstream_id: str | None,
        input_ref: str | None,
        created: float,
        detail: Detail,
        lines: Lines,
    ) -> None:
        self.id = number
        self.token = token
        self.state = state
        self.upstream_id = upstream_id
        self.input_ref = input_ref
        self.created = created
        self.detail = detail
        self.lines = lines
        self.problems: list[BatchProblem] = []  # of its validation; asked for again after a restart
        self.wait: Wait | None = None
        self.next_look: float | None = None  # wall time
        self.recovered = False  # read from task.db: an earlier life may have been broken off anywhere
        self.step = ""  # what is being done: uploading, collecting …

    @classmethod
    def from_row(cls, row: SubmissionRow, lines: Lines) -> Submission:
        """A stored one. Raises msgspec.ValidationError."""
        detail = msgspec.convert(row.detail, Detail)
        one = cls(row.id, row.token, row.state, row.upstream_id, row.input_ref, row.created, detail, lines)
        one.recovered = True
        return one

    @property
    def closed(self) -> bool:
        """Whether it has ended, and its lines are free."""
        return self.state in CLOSED

    @property
    def requests(self) -> int:
        """How many lines it has."""
        return count_lines(range_ for ranges in self.lines.values() for range_ in ranges)

    @property
    def name(self) -> str:
        """What its files are called: `<name>.output.jsonl` and others."""
        return f"batches/s{self.id:07d}"

    def columns(self) -> dict[str, Any]:
        """What the store keeps of it."""
        return {
            "token": self.token,
            "state": self.state,
            "upstream_id": self.upstream_id,
            "input_ref": self.input_ref,
            "detail": msgspec.to_builtins(self.detail),
        }

    def take(self, status: BatchStatus) -> bool:
        """Note what a look at the batch showed; whether anything that is worth storing has changed."""
        detail = self.detail
        before = (detail.raw_state, detail.total, detail.completed, detail.failed, detail.expires)
        detail.raw_state = status.raw_state[:64]
        detail.total, detail.completed, detail.failed = status.total, status.completed, status.failed
        detail.expires = status.expires
        detail.ran = (
            detail.ran or status.state in _BEYOND_VALIDATION or bool(status.completed or status.failed)
        )
        if status.created is not None and detail.submitted is None:
            detail.submitted = status.created
        if status.state.is_final:
            detail.ended = status.ended
            detail.end_state = status.state.value
            detail.outputs = [(ref.kind, ref.ref) for ref in status.results]
            detail.message = "; ".join(_said(problem) for problem in status.problems[:3])[:2000]
            self.problems = status.problems
        return before != (detail.raw_state, detail.total, detail.completed, detail.failed, detail.expires)


_BEYOND_VALIDATION = frozenset({"running", "finalizing", "completed", "expired"})


def _said(problem: BatchProblem) -> str:
    where = f"line {problem.line}: " if problem.line is not None else ""
    return f"{where}{problem.message or problem.code}"


def new_token() -> str:
    """Unique in the world: it stands in the batch's metadata and in the upload's name."""
    return f"bi-{uuid.uuid4().hex}"
