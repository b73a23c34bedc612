"""Results as Python objects, read from the lines that batch_infer writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.answers import read_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one record.

    `answer` is the text of the answer, None without one; then `error` is the class of the failure
    (`bad_request`, `image_missing`, `missing` …) and `message` says more. `body` is what the service
    sent, as JSON gives it, also with most errors; `status_code` is its HTTP status.
    """

    custom_id: str
    answer: str | None
    finish_reason: str = ""
    error: str | None = None
    message: str = ""
    status_code: int | None = None
    body: Any = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


class NoResultError(ValueError):
    """A line is no result. `line` counts from 1."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} is no result")
        self.line = line


def read_results(lines: Iterable[bytes]) -> Iterator[Result]:
    """The results in lines as output.jsonl and the error files have them. Raises NoResultError."""
    for number, line in enumerate(lines, 1):
        try:
            result = _read(line)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise NoResultError(number) from error
        yield result


def _read(line: bytes) -> Result:
    found = json.loads(line)
    response = found.get("response") or {}
    body, status = response.get("body"), response.get("status_code")
    error = found.get("error")
    if error is None:
        answer = read_answer(body)
        return Result(found["custom_id"], answer.text, answer.finish_reason, status_code=status, body=body)
    return Result(
        found["custom_id"],
        None,
        error=str(error.get("code")),
        message=str(error.get("message", "")),
        status_code=status,
        body=body,
    )
