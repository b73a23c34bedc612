"""Judging a line of a result file, and a complaint of a batch's validation: the table of `failures`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_inferd.backends.reply import ErrorInfo
from batch_inferd.failures import Action, Verdict, classify_reply, classify_told
from batch_inferd.images.errors import FAILURES as IMAGE_FAILURES

if TYPE_CHECKING:
    from batch_inferd.backends.batch.provider import ResultLine
    from batch_inferd.backends.online import Prepared

EXPIRED, CANCELLED = "expired", "cancelled"
_EXPIRED_CODES = frozenset({"batch_expired", "request_expired", "expired"})
_CANCELLED_CODES = frozenset(
    {
        "batch_cancelled",
        "batch_canceled",
        "request_cancelled",
        "request_canceled",
        "cancelled",
        "canceled",
    }
)


def judge_result(result: ResultLine, prepared: Prepared) -> Verdict:
    """What a result line says of its record. A failure's message has no secrets in it.

    RETRY with the class `expired` or `cancelled`: the batch ended before it was the record's turn.
    """
    status, body = result.status, result.body
    if body is not None and (status is not None or not (result.code or result.message)):
        status = 200 if status is None else status
        verdict = classify_reply(status, {}, body, prepared.plan, 0.0, prepared.redactor.data)
        if verdict.action is Action.ANSWER:
            return verdict
    else:
        verdict = _judge_told(status, result.code, result.message, prepared)
    return msgspec.structs.replace(verdict, message=prepared.redactor.text(verdict.message))


def _judge_told(status: int | None, code: str, message: str, prepared: Prepared) -> Verdict:
    error = ErrorInfo(message=prepared.redactor.text(message)[:2000], code=code[:200])
    said = code.lower()
    if said in _EXPIRED_CODES or (status is None and not said and EXPIRED in message.lower()):
        return Verdict(Action.RETRY, EXPIRED, error.message or "the batch expired")
    if said in _CANCELLED_CODES:
        return Verdict(Action.RETRY, CANCELLED, error.message or "the batch was cancelled")
    if status is not None and 200 <= status < 300 and not error.message and not said:
        return Verdict(Action.RETRY, "unparsable", f"HTTP {status} without a body")
    if status is None or 200 <= status < 400:  # an error all the same
        return classify_told(None, error, prepared.plan, "no response")
    return classify_told(status, error, prepared.plan, f"HTTP {status}")


def judge_problem(code: str, message: str, prepared: Prepared) -> Verdict:
    """What the refusal of a batch says of a line that it names: BLOCK, or END.

    Complaints about images are our own: the upload could not put one in.
    """
    if code in IMAGE_FAILURES:
        return Verdict(Action.END, code, message)
    error = ErrorInfo(message=prepared.redactor.text(message)[:2000], code=code[:200])
    return classify_told(400, error, prepared.plan, "refused at the batch's validation")
