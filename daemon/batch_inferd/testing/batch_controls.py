"""What a test can tell the service to do wrong with files and batches.

A batch keeps the controls that were in force when it was created, over kills too. These are looked at
when they are needed instead: `batch_state_hold`, `batch_hold_share`, `batch_cancel_s`, `list_lag_s`,
limits, all counts, and of the online controls `auth`, `credit` and `rules`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Some = Annotated[int, msgspec.Meta(ge=1)]
Outcome = Literal[
    "completed",
    "failed",  # in_progress, but without a line worked on
    "expired",
    "cancelled",  # by somebody else
    "token_limit_exceeded",
    "validation_lines",  # fails and names lines: those of batch_invalid, or the first
    "validation_none",  # fails and names none
]
Route = Literal["upload", "files", "file", "content", "delete", "create", "batches", "batch", "cancel"]
STATES = ("validating", "in_progress", "finalizing", "cancelling")
EXTRA_STATE = "pending_review"


class BatchControls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without any, a batch is done as fast as this machine can, and never fails."""

    # How long, and how it ends.
    batch_latency_s: float | tuple[float, float] = 0.0  # creation to end, by the service's clock
    batch_state_hold: str | None = None  # batches stop in this state until it is cleared; none expires
    batch_hold_share: Rate = 0.5  # share of the lines that is worked on in a held in_progress
    batch_outcome: Outcome = "completed"
    batch_outcomes: tuple[Outcome, ...] = ()  # one for each created batch; then batch_outcome
    batch_expire_share: Rate = 0.5  # share of the lines finished by outcomes expired and cancelled
    batch_silent_end: bool = False  # lines that an end left undone are in no file
    batch_cancel_s: float = 0.0  # cancelling to cancelled
    batch_invalid: tuple[str, ...] = ()  # lines whose prompt has one of these fail the validation
    batch_invalid_unnamed: bool = False  # … and the error does not say which lines

    # The result files.
    batch_shuffle: bool = False
    batch_duplicate_rate: Rate = 0.0  # share of the results that come twice
    batch_unknown: Count = 0  # results for ids that were never sent
    batch_missing_rate: Rate = 0.0  # share of the lines without a result; they are not billed
    batch_error_rate: Rate = 0.0  # share of the lines that end with 500
    batch_no_output_file: bool = False  # all lines end with 500
    batch_empty_error_file: bool = False  # an error file even when there is no error
    batch_crlf: bool = False
    batch_no_final_newline: bool = False
    batch_body_string: bool = False  # response.body is a JSON string with the body in it
    batch_no_error_key: bool = False  # output lines without `error`
    batch_error_line: Literal["response_null", "no_response", "with_response"] = "with_response"

    # How objects look.
    batch_null_counts: bool = False
    batch_blank_ids: bool = False  # file ids that are not there are "" and not null
    batch_extra_state: bool | str = False  # begins in this state, or in one that nobody knows
    batch_upper_states: bool = False
    batch_uuid_ids: bool = False

    # The calls. The counts are for as many calls, then it is over.
    list_lag_s: float = 0.0  # a new batch is in no list for so long
    accept_then_reset: Count = 0  # creates that are accepted; the connection breaks without an answer
    create_5xx: Count = 0  # creates that are accepted and answered with 500
    reject_create_429: Count = 0
    reject_create_token_limit: Count = 0  # 400 token_limit_exceeded, and nothing is made
    drop_upload: Count = 0  # uploads that are stored; the connection breaks without an answer
    upload_5xx: Count = 0  # uploads that are not stored
    batch_truncate_download: Count = 0  # downloads cut in their middle
    batch_calls_500: dict[Route, Count] = {}  # calls of a route that do nothing but fail

    # Limits.
    max_enqueued_tokens: Some | None = None  # input tokens of all live batches; above: token_limit_exceeded
    max_in_flight_batches: Some | None = None  # above: 429 batch_queue_full
    batch_max_requests: Some = 50_000  # lines of a file
    batch_max_bytes: Some = 200_000_000  # of a file
    batch_model_whitelist: tuple[str, ...] = ()  # empty: any model

    def __post_init__(self) -> None:
        low, high = self.batch_latency_range
        if not 0 <= low <= high:
            raise ValueError("batch_latency_s must be a number from 0, or [min, max]")
        if self.batch_cancel_s < 0 or self.list_lag_s < 0:
            raise ValueError("batch_cancel_s and list_lag_s must be numbers from 0")
        states = [*STATES, *([self.first_state] if self.first_state else [])]
        if self.batch_state_hold not in (None, *states):
            raise ValueError(f"batch_state_hold must be one of {', '.join(states)}")

    @property
    def batch_latency_range(self) -> tuple[float, float]:
        """Least and most seconds."""
        given = self.batch_latency_s
        return given if isinstance(given, tuple) else (given, given)

    @property
    def first_state(self) -> str:
        """The state before `validating`; "" for none."""
        if isinstance(self.batch_extra_state, str):
            return self.batch_extra_state
        return EXTRA_STATE if self.batch_extra_state else ""
