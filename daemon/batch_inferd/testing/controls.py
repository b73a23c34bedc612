"""What a test can tell the service to do wrong, checked as a whole before any of it applies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from batch_inferd.testing.batch_controls import BatchControls, Count, Rate
from batch_inferd.testing.billing import Tokenizer  # noqa: TC001  msgspec reads it when it converts
from batch_inferd.testing.spoiling import Spoil  # noqa: TC001  likewise

ACTIONS = (
    "drop",
    "400",
    "401",
    "403",
    "404",
    "422",
    "429",
    "429_too_large",
    "500",
    "503",
    "hang",
    "truncate",
    "garbage",
)
SLOW = "slow:"


class ControlsError(ValueError):
    """The controls are not valid; the message says which and why."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Do something to the calls whose last user message contains a text."""

    contains: str
    do: str  # one of ACTIONS, or "slow:SECONDS"
    times: Count | None = None  # the first N calls only; None for each

    def __post_init__(self) -> None:
        if self.do in ACTIONS:
            return
        if not self.do.startswith(SLOW) or not _is_seconds(self.do.removeprefix(SLOW)):
            known = ", ".join((*ACTIONS, "slow:SECONDS"))
            raise ValueError(f"unknown action {self.do!r}; known: {known}")


class Controls(BatchControls, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All controls with their defaults: without any, the service answers at once and never fails."""

    latency_ms: float | tuple[float, float] = 0.0  # or [min, max], drawn anew for each call
    error_rate: Rate = 0.0  # share of the calls that end with 500
    html_5xx: bool = False  # every 5xx comes as 502 with a proxy's HTML page
    rate_429: Rate = 0.0
    storm_429: Count = 0  # this many calls get 429, then it is over
    retry_after: str | None = None  # the header of every 429 and 503, sent as it stands
    rpm: Annotated[int, msgspec.Meta(ge=1)] | None = None  # requests a minute and key, for real
    max_concurrency: Annotated[int, msgspec.Meta(ge=1)] | None = None  # 429 above
    drop_rate: Rate = 0.0  # the connection closes without an answer
    truncate_rate: Rate = 0.0  # the connection closes in the middle of the body
    garbage_rate: Rate = 0.0  # 200 with a body that is not JSON
    slow_loris_rate: Rate = 0.0  # the head, then a byte at a time until the client leaves
    pretty: bool | Literal["lf", "crlf"] = False  # bodies over many lines, with a raw U+2028 in a string
    spoil: tuple[Spoil, ...] = ()  # answers that are of no use; the first way that fits
    oversize_bytes: Count = 0  # answers are padded to at least this size
    tokenizer: Tokenizer | None = None  # another rule to count tokens and to bill by
    cached_share: Rate = 0.0  # of the tokens in: these are told to come from a cache
    no_usage_rate: Rate = 0.0  # share of the answers that do not tell their usage
    auth: Literal["ok", "401", "403"] = "ok"  # what every key gets
    bad_keys: tuple[str, ...] = ()  # these get 401
    credit: Literal["ok", "insufficient_quota", "402"] = "ok"
    unknown_models: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()  # the first that fits and has times left applies
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.latency_range
        if not 0 <= low <= high:
            raise ValueError("latency_ms must be a number from 0, or [min, max]")
        if self.retry_after is not None and not self.retry_after.isprintable():
            raise ValueError("retry_after must not have control characters: it is a header")

    @property
    def latency_range(self) -> tuple[float, float]:
        """Least and most milliseconds."""
        return self.latency_ms if isinstance(self.latency_ms, tuple) else (self.latency_ms, self.latency_ms)

    def merged(self, patch: Any) -> Controls:
        """These controls with the keys of a JSON object replaced. Raises ControlsError."""
        if not isinstance(patch, dict):
            raise ControlsError("the controls must be a JSON object")
        batch = BatchControls.__struct_fields__
        known = [*(name for name in self.__struct_fields__ if name not in batch), *batch]
        if unknown := [key for key in patch if key not in known]:
            raise ControlsError(f"unknown controls: {', '.join(unknown)}; known: {', '.join(known)}")
        try:
            return msgspec.convert({**self.as_json(), **patch}, Controls)
        except msgspec.ValidationError as error:
            raise ControlsError(str(error)) from error

    def as_json(self) -> dict[str, Any]:
        """All keys and values, as plain JSON."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain


def parse_controls(text: str) -> Controls:
    """The controls that a JSON text asks for, upon the defaults. Raises ControlsError."""
    try:
        patch = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ControlsError(f"the controls are not JSON: {error}") from error
    return Controls().merged(patch)


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False
