"""What counts as a failure, and what follows from it: the table of DESIGN §6 as pure functions.

The class of a failure stands in the journals, in error records and in the logs. All there are:

    class               what happened                                       what follows
    network             nothing was sent: DNS, refused, TLS, proxy …        wait for the network; free
    reset               the connection broke after sending                  retry
    timeout             no answer in time                                   retry
    truncated           the answer ended in its middle                      retry
    unparsable          not JSON, not HTTP, or nothing in it                retry
    server_error        5xx, or 409 and 425: the service asks to try again  retry
    redirected          3xx: redirects are not followed                     retry
    rate_limited        429, or 503 with Retry-After                        hold the account; free
    too_large           413, or a 429 that says that the request is so      error record
    response_too_large  an answer over the cap                              error record
    bad_request         400, a moderation's 403, an empty 200 that was     error record
                        billed, and other 4xx about this record
    not_found           404                                                 error record
    unprocessable       422                                                 error record
    auth                401, and any other 403                              block the account; free
    model               no such model                                       block the task; free
    credit              402, quota spent, a daily limit                     block the account; free
    invalid_input       the input line cannot be sent                       error record, nothing sent
    image_missing       an image of the record does not exist               error record, nothing sent
    image_invalid       it is no image, is broken, or not of a format       error record, nothing sent
                        that is allowed
    image_too_large     it has too many bytes or pixels, or the request     error record, nothing sent
                        would with all its images
    image_unreadable    it cannot be read                                   error record, nothing sent;
                        because of the network, or just now                 retry
    cancelled           given up in flight by `-cancel` or by a shutdown    free
                        or with its batch, by others than us                retry
    expired             its batch ended before it was its turn              retry
    batch_failed        its batch failed as a whole                         retry
    absent              its batch ended, and no result file names it        retry; then missing

A retry is free when the account's next connect fails too (an outage); the worker decides that.
"""

from __future__ import annotations

import email.utils
import enum
import math
import re
from typing import TYPE_CHECKING

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.backends import rawjson, reply
from batch_inferd.backends.reply import ErrorInfo, Usage
from batch_inferd.backends.transport import NotSent, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batch_inferd.backends.plan import RequestPlan

# A service that asks for more than an hour means a quota of the day or the month: the account is paused
# as without credit, and probed. More than a month is nonsense, and treated as if it had not been said.
HOLD_MAX_S = 3600.0
QUOTA_MAX_S = 31 * 24 * 3600.0

_MODEL_CODES = frozenset({"model_not_found"})
_THROTTLE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "too_many_requests", "rate_limited"})
_REQUEST_CODES = frozenset(
    {"invalid_request_error", "context_length_exceeded", "content_filter", "content_policy_violation"}
)
_TOO_LARGE_CODES = frozenset({"context_length_exceeded", "request_too_large"})
_TOO_LARGE = re.compile(
    r"(request|prompt|input|message)s? (is |are )?too (large|long|big)|maximum context length"
)
_NO_MODEL = re.compile(r"\bmodel\b[^.!?\n]{0,80}\b(not found|does ?n[o']t exist|not exist)", re.IGNORECASE)
_QUOTED = re.compile(r"[`'\"“][^`'\"”]+[`'\"”]")
# A 403 that is about one record: OpenRouter, xAI and others refuse what their moderation flags.
_MODERATED = re.compile(
    r"moderation|\bflagged\b|content[ _-]?(policy|filter)|usage guidelines", re.IGNORECASE
)
_CLASS_OF = {400: "bad_request", 404: "not_found", 413: "too_large", 422: "unprocessable"}
_RETRY_STATUSES = {408: "timeout", 409: "server_error", 425: "server_error"}


class Action(enum.Enum):
    """What follows for the record and its account."""

    ANSWER = "answer"  # it is answered
    END = "end"  # an error record
    RETRY = "retry"  # again after a backoff; uses up a retry unless it was an outage
    THROTTLE = "throttle"  # the account holds, the record goes first in line
    BLOCK = "block"  # nothing more is sent until the daemon speaks
    NETWORK = "network"  # nothing was sent: the account waits for the network


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """A judged outcome. `retry_after` is in seconds, None where the service did not say."""

    action: Action
    cls: str = ""
    message: str = ""
    retry_after: float | None = None
    usage: Usage = Usage(None, None)
    finish_reason: str | None = None


def classify_reply(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    plan: RequestPlan,
    now: float,
    clean: Callable[[bytes], bytes] = bytes,
) -> Verdict:
    """Judge a reply that was read to its end. Header names are lower-case; `now` is wall time.

    `clean` takes secrets out of a body, before any text of it is shortened.
    """
    if 200 <= status < 300:
        return _classify_success(status, headers, body, plan, now, clean)
    if 300 <= status < 400:
        where = headers.get("location", "nowhere")[:200]
        return Verdict(
            Action.RETRY, "redirected", f"HTTP {status}: redirected to {where}, which is not followed"
        )
    return _classify_error(status, headers, reply.read_error(clean(body)), plan, now)


def classify_exception(error: TransportError) -> Verdict:
    """Judge a call that ended without a whole reply."""
    if isinstance(error, NotSent):
        return Verdict(Action.NETWORK, "network", f"cannot connect to {error.address} ({error.detail})")
    if error.reason == "response_too_large":
        # Asking again would be billed again, and most likely be as long.
        return Verdict(Action.END, error.reason, error.detail)
    return Verdict(Action.RETRY, error.reason, error.detail)


def classify_told(status: int | None, error: ErrorInfo, plan: RequestPlan, label: str) -> Verdict:
    """Judge a failure that came in other words than a reply's: a line of a batch's results or validation.

    Without a status the error's code or type says what it would have been. `label` begins the message.
    """
    return _classify_error(_status_of(error) if status is None else status, {}, error, plan, 0.0, label=label)


def network_text(error: NotSent) -> Text:
    """What the monitor says while the account waits for the network."""
    reasons = {
        "dns": Text("the name cannot be resolved"),
        "refused": Text("connection refused"),
        "connect_timeout": Text("no connection in time"),
        "unreachable": Text("the network is unreachable"),
    }
    reason = reasons.get(error.reason, Text("{detail}", {"detail": error.detail}))
    if error.reason == "proxy":
        return Text(
            "cannot connect through the proxy {address} ({reason})",
            {"address": error.address, "reason": reason},
        )
    return Text("cannot connect to {address} ({reason})", {"address": error.address, "reason": reason})


def blocked_text(verdict: Verdict) -> Text:
    """Why an account or a task was blocked, for its pause reason."""
    values = {"message": verdict.message}
    if verdict.cls == "auth":
        return Text("the service refused the credential: {message}", values)
    if verdict.cls == "model":
        return Text("the service does not have this model: {message}", values)
    return Text("no credit, or the quota is spent: {message}", values)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the service asks to wait; None where it does not say, or says nonsense.

    Reads `retry-after-ms` (OpenAI, Azure), and `retry-after` in seconds or as an HTTP date.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if not value:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value, now)
        if math.isfinite(seconds) and 0 <= seconds <= QUOTA_MAX_S:
            return seconds
    return None


def _until(date: str, now: float) -> float:
    try:
        moment = email.utils.parsedate_to_datetime(date)
    except (ValueError, IndexError, TypeError):
        return math.nan
    return max(0.0, moment.timestamp() - now)


def _classify_success(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    plan: RequestPlan,
    now: float,
    clean: Callable[[bytes], bytes],
) -> Verdict:
    try:
        facts = reply.read_body(body)
    except rawjson.InvalidJson as error:
        return Verdict(Action.RETRY, "unparsable", f"HTTP {status} with a body that is {error}")
    if facts.content:
        return Verdict(Action.ANSWER, "", "", None, facts.usage, facts.finish_reason)
    told = reply.read_error(clean(body))  # in an `error`, or the body itself is one
    if told.message or told.code or told.kind:
        label = f"HTTP {status} with an error"
        return _classify_error(_status_of(told), headers, told, plan, now, label=label)
    nothing = f"HTTP {status} without choices, data or output"
    if facts.usage.tokens_in is not None:
        return Verdict(Action.END, "bad_request", nothing)  # billed, and empty: so it will be again
    return Verdict(Action.RETRY, "unparsable", nothing)


def _status_of(error: ErrorInfo) -> int:
    """The HTTP status that an error inside a 200 would have had; 500 where nothing tells."""
    if error.code.isascii() and error.code.isdigit() and 400 <= int(error.code[:4]) < 600:
        return int(error.code)
    names = {error.code.lower(), error.kind.lower()}
    if names & _THROTTLE_CODES:
        return 429
    if names & _REQUEST_CODES:
        return 400
    return 500


def _classify_error(
    status: int,
    headers: Mapping[str, str],
    error: ErrorInfo,
    plan: RequestPlan,
    now: float,
    *,
    label: str = "",
) -> Verdict:
    message = f"{label or f'HTTP {status}'}: {error.message or error.code or 'without a message'}"
    wait = retry_after(headers, now)
    if status == 402 or _is_credit(error, plan):
        return Verdict(Action.BLOCK, "credit", message, wait)
    if _is_model(status, error, plan):
        return Verdict(Action.BLOCK, "model", message)
    if status == 403 and _MODERATED.search(f"{error.code} {error.kind} {error.message}"):
        return Verdict(Action.END, "bad_request", message)
    if status in {401, 403}:
        return Verdict(Action.BLOCK, "auth", message)
    if status == 429 or (status in {503, 529} and wait is not None):
        if status == 429 and _is_too_large(error):
            return Verdict(Action.END, "too_large", message)
        if wait is not None and wait > HOLD_MAX_S:
            return Verdict(Action.BLOCK, "credit", message, wait)
        return Verdict(Action.THROTTLE, "rate_limited", message, wait)
    if status >= 500:
        return Verdict(Action.RETRY, "server_error", message)
    if status in _RETRY_STATUSES:
        return Verdict(Action.RETRY, _RETRY_STATUSES[status], message)
    return Verdict(Action.END, _CLASS_OF.get(status, "bad_request"), message)


def _matches(error: ErrorInfo, entries: list[str]) -> bool:
    """Whether a profile's list names this error: by code or type, or by a phrase in its message.

    An entry with a space or a letter beyond ASCII is a phrase; a bare `1113` is only ever a code.
    """
    names = {error.code.lower(), error.kind.lower()}
    message = error.message.lower()
    return any(
        (entry.lower() in message) if (" " in entry or not entry.isascii()) else entry.lower() in names
        for entry in entries
        if entry
    )


def _is_credit(error: ErrorInfo, plan: RequestPlan) -> bool:
    return _matches(error, plan.credit_codes)  # the profile's word: the same code is a rate limit elsewhere


def _is_model(status: int, error: ErrorInfo, plan: RequestPlan) -> bool:
    if not 400 <= status < 500:
        return False
    if error.code.lower() in _MODEL_CODES or _matches(error, plan.model_codes):
        return True
    # vLLM, Ollama and others have no code of their own for it; they name the model.
    name = str(plan.defaults.get("chat", {}).get("model") or "")
    named = bool(name) and name in error.message
    return (
        status == 404
        and bool(_NO_MODEL.search(error.message))
        and (named or bool(_QUOTED.search(error.message)))
    )


def _is_too_large(error: ErrorInfo) -> bool:
    return bool({error.code.lower(), error.kind.lower()} & _TOO_LARGE_CODES) or bool(
        _TOO_LARGE.search(error.message.lower())
    )


def batch_problem_class(code: str, message: str, plan: RequestPlan) -> str:
    """`model` or `credit` where a batch was refused for want of one, else an empty string."""
    error = ErrorInfo(message=message, code=code)
    if _is_credit(error, plan):
        return "credit"
    return "model" if _is_model(400, error, plan) else ""
