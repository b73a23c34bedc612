"""What can come of a call to a Batch API, other than its answer.

    ProviderError
      ├─ Unsettled   sent, and not readably answered: it may have happened
      ├─ Throttled   too many calls: later, nothing is wrong
      ├─ Capacity    the account's queue is full: later, nothing is wrong
      ├─ Blocked     credential, credit or model: a person, or time, must mend it
      ├─ Refused     the service says no to this request
      └─ NotFound    this object does not exist, or not any more

`transport.NotSent` stands beside them: nothing left this machine. All of them cross the worker's pipe.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.backends.transport import NotSent

if TYPE_CHECKING:
    from collections.abc import Iterable

Blocker = Literal["auth", "credit", "model"]
IMAGE_CHANGED = "image_changed"  # our own refusal of a file whose images are not those of its packing
_BLOCKERS: dict[str, Blocker] = {"auth": "auth", "credit": "credit", "model": "model"}


class BatchProblem(msgspec.Struct, frozen=True):
    """One complaint of a validation. `line` counts from 1 in the uploaded file."""

    code: str
    message: str
    line: int | None = None
    param: str = ""


_WIRE_BYTES = 400_000  # of problems in one message of a pipe, which takes a megabyte
_WIRE_TEXT = 500  # characters of one


def fitting(problems: Iterable[BatchProblem]) -> list[BatchProblem]:
    """The first of them, shortened: as many as a message surely holds. The others will be told again."""
    found: list[BatchProblem] = []
    room = _WIRE_BYTES
    for problem in problems:
        short = msgspec.structs.replace(problem, message=problem.message[:_WIRE_TEXT])
        room -= len(json.dumps(msgspec.to_builtins(short)))
        if room < 0:
            break
        found.append(short)
    return found


class ProviderError(Exception):
    """The root. `text` has no secret in it."""

    kind: ClassVar[str] = "provider"

    def __init__(self, text: Text) -> None:
        super().__init__(str(text))
        self.text = text

    def to_wire(self) -> dict[str, Any]:
        """For `error_from_wire` on the other side of a pipe."""
        return {"kind": self.kind, "text": self.text.to_wire()}


class Unsettled(ProviderError):  # noqa: N818  these are names of what happened
    """The request may have been obeyed: it was sent, and no answer to it could be read."""

    kind = "unsettled"


class _Later(ProviderError):  # noqa: N818
    """Not now. `retry_after` is in seconds, None where the service did not say."""

    def __init__(self, text: Text, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after

    def to_wire(self) -> dict[str, Any]:
        """See ProviderError."""
        return super().to_wire() | {"retry_after": self.retry_after}


class Throttled(_Later):
    """Too many calls."""

    kind = "throttled"


class Capacity(_Later):
    """The queue, or the token limit, of the account is reached."""

    kind = "capacity"


class Blocked(ProviderError):  # noqa: N818
    """Nothing of the account (or with this model) will work until it is mended."""

    kind = "blocked"

    def __init__(self, text: Text, cls: Blocker, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.cls = cls
        self.retry_after = retry_after

    def to_wire(self) -> dict[str, Any]:
        """See ProviderError."""
        return super().to_wire() | {"cls": self.cls, "retry_after": self.retry_after}


class Refused(ProviderError):  # noqa: N818
    """The service will not do this. `problems` are those of single lines, where it named them."""

    kind = "refused"

    def __init__(
        self,
        text: Text,
        code: str = "",
        status: int | None = None,
        problems: list[BatchProblem] | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.problems = problems or []

    def to_wire(self) -> dict[str, Any]:
        """See ProviderError."""
        problems = [msgspec.to_builtins(problem) for problem in fitting(self.problems)]
        return super().to_wire() | {"code": self.code, "status": self.status, "problems": problems}


class NotFound(ProviderError):  # noqa: N818
    """404 or 410 of the object that was asked for."""

    kind = "not_found"


def error_to_wire(error: ProviderError | NotSent) -> dict[str, Any]:
    """The wire form of everything that a provider's call raises."""
    if isinstance(error, ProviderError):
        return error.to_wire()
    return {"kind": "not_sent", "reason": error.reason, "detail": error.detail, "address": error.address}


def error_from_wire(data: dict[str, Any]) -> ProviderError | NotSent:
    """The error that `to_wire` or `error_to_wire` described; an unknown kind becomes Unsettled."""
    kind = data.get("kind")
    if kind == "not_sent":
        return NotSent(str(data.get("reason")), str(data.get("detail")), str(data.get("address")))
    text = Text.from_wire(data.get("text", ""))
    wait = data.get("retry_after")
    if kind == Throttled.kind:
        return Throttled(text, wait)
    if kind == Capacity.kind:
        return Capacity(text, wait)
    if kind == Blocked.kind:
        return Blocked(text, _BLOCKERS.get(str(data.get("cls")), "auth"), wait)
    if kind == Refused.kind:
        problems = msgspec.convert(data.get("problems", []), list[BatchProblem])
        return Refused(text, str(data.get("code", "")), data.get("status"), problems)
    return NotFound(text) if kind == NotFound.kind else Unsettled(text)
