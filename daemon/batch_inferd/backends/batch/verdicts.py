"""Judging the replies of a Batch API: from a status, its headers and its body to a `ProviderError`.

The table of `failures` decides; what differs for batches stands here. A create that failed on the
service's side may have succeeded; a full queue is no error; a missing route is no missing object.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.text import Text
from batch_inferd import failures
from batch_inferd.backends import rawjson, reply
from batch_inferd.backends.batch.errors import (
    Blocked,
    Capacity,
    NotFound,
    ProviderError,
    Refused,
    Throttled,
    Unsettled,
)
from batch_inferd.backends.batch.status import read_problems
from batch_inferd.failures import Action

if TYPE_CHECKING:
    from batch_inferd.backends.batch.api import BatchApi
    from batch_inferd.backends.batch.errors import Blocker
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.backends.redact import Redactor
    from batch_inferd.backends.reply import ErrorInfo
    from batch_inferd.backends.transport import HttpReply, SentFailed

NO_BATCH_API = "no_batch_api"  # the code of what a service without a Batch API refuses

_QUEUE_FULL = re.compile(
    r"enqueued[- ]tokens?\b|token_limit_exceeded|queue (limit|is full)|queued tokens|排队|队列", re.IGNORECASE
)
_TOO_MANY = re.compile(
    r"(too many|maximum number of|limit of \d*) ?([\w-]+ )?(batches|batch jobs|batch tasks)\b", re.IGNORECASE
)
_RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error"})  # too many creates, not too many batches
_NO_SPACE = re.compile(
    r"out of space|\bstorage\b|(quota|limit|maximum|too many)\b.{0,60}\bfiles\b"
    r"|\bfiles\b.{0,60}(quota|limit|exceed)",
    re.IGNORECASE,
)
_NOT_READY = re.compile(
    r"\bfile\b.{0,120}(not (yet )?(been )?(ready|processed|finished|complete)|still (being )?process"
    r"|being processed|is processing|pending)",
    re.IGNORECASE,
)
_ABOUT_FILE = re.compile(r"\bfile", re.IGNORECASE)
_NO_ROUTE = frozenset({404, 405, 501})
_BLOCKERS: dict[str, Blocker] = {"auth": "auth", "credit": "credit", "model": "model"}


class Call(NamedTuple):
    """One of the calls: what could not be done, and whether it asks for one object by its id."""

    what: Text
    one_object: bool = False
    creates: bool = False


UPLOAD = Call(Text("the file cannot be uploaded"))
FILES = Call(Text("the files cannot be listed"))
FILE = Call(Text("the file cannot be looked at"), one_object=True)
DELETE = Call(Text("the file cannot be deleted"), one_object=True)
CREATE = Call(Text("the batch cannot be created"), creates=True)
RETRIEVE = Call(Text("the batch cannot be looked at"), one_object=True)
CANCEL = Call(Text("the batch cannot be cancelled"), one_object=True)
BATCHES = Call(Text("the batches cannot be listed"))
DOWNLOAD = Call(Text("the results cannot be fetched"), one_object=True)
MODELS = Call(Text("the models cannot be listed"))


class Judge:
    """Judges the replies of one plan."""

    def __init__(self, plan: RequestPlan, api: BatchApi, redactor: Redactor) -> None:
        self._plan = plan
        self._wait_codes = frozenset(code.lower() for code in api.wait_codes)
        self._redactor = redactor

    def failure(self, call: Call, answer: HttpReply, now: float) -> ProviderError:
        """What a reply means that is not the wanted one; `now` is wall time."""
        told = reply.read_error(self._redactor.data(answer.body))
        status = answer.status
        if 300 <= status < 400:
            gone = Text("HTTP {status}: redirected, which is not followed", {"status": status})
            return Refused(self.text(call, gone), "redirected", status)
        if call.creates and status < 500 and self._is_full(told, worded=status >= 400):
            return Capacity(self._message(call, status, told), failures.retry_after(answer.headers, now))
        if 200 <= status < 300 and not _has_error(answer.body):
            odd = Text("HTTP {status} with an answer that cannot be read", {"status": status})
            return Unsettled(self.text(call, odd))
        verdict = failures.classify_reply(
            status, answer.headers, answer.body, self._plan, now, self._redactor.data
        )
        text = self.text(call, self._redactor.text(verdict.message))
        # Also with Retry-After: what stands before the service may say so when the batch was made already.
        if call.creates and status >= 500 and status not in _NO_ROUTE:
            return Unsettled(text)
        if verdict.action is Action.BLOCK:
            return Blocked(text, _BLOCKERS.get(verdict.cls, "auth"), verdict.retry_after)
        if verdict.action is Action.THROTTLE:
            return Throttled(text, verdict.retry_after)
        if call.one_object and status in {404, 410}:
            return NotFound(text)
        if status in _NO_ROUTE and not call.one_object and not _is_about_file(answer.body, told):
            return self._no_batch_api(call, status)
        if call is UPLOAD and 400 <= status < 500 and _NO_SPACE.search(told.message):
            return Blocked(text, "credit")  # the quota of files: a person makes room, or time does
        if call.creates and status == 400 and _NOT_READY.search(told.message):
            return Throttled(text, failures.retry_after(answer.headers, now))
        if verdict.action in {Action.RETRY, Action.ANSWER}:
            return Unsettled(text)
        return Refused(text, told.code or told.kind, status, self._problems(answer.body))

    def unsettled(self, call: Call, error: SentFailed) -> Unsettled:
        """What a request means whose answer could not be read."""
        return Unsettled(self.text(call, self._redactor.text(error.detail)))

    def text(self, call: Call, message: Text | str) -> Text:
        """`the batch cannot be created: …`."""
        return Text("{what}: {message}", {"what": call.what, "message": message})

    def _is_full(self, told: ErrorInfo, *, worded: bool) -> bool:
        codes = {told.code.lower(), told.kind.lower()}
        if codes & self._wait_codes:
            return True
        many = not codes & _RATE_CODES and bool(_TOO_MANY.search(told.message))
        return worded and (many or bool(_QUEUE_FULL.search(told.message)))

    def _message(self, call: Call, status: int, told: ErrorInfo) -> Text:
        message = self._redactor.text(told.message or told.code or told.kind)
        return self.text(call, f"HTTP {status}: {message}")

    def _no_batch_api(self, call: Call, status: int) -> Refused:
        none = Text(
            "this service does not seem to have a Batch API (HTTP {status}); use backend: online",
            {"status": status},
        )
        return Refused(self.text(call, none), NO_BATCH_API, status)

    def _problems(self, body: bytes) -> list[Any]:
        try:
            value = rawjson.loads(body)
        except rawjson.InvalidJson:
            return []
        inner = value.get("error") if isinstance(value, dict) else None
        for holder in (inner, value):
            if isinstance(holder, dict) and holder.get("errors"):
                return read_problems(holder["errors"], self._redactor.text)
        return []


def _has_error(body: bytes) -> bool:
    """Whether a 2xx is an error in disguise."""
    try:
        value = rawjson.loads(body)
    except rawjson.InvalidJson:
        return False
    return isinstance(value, dict) and bool(
        value.get("error") or (value.get("code") and value.get("message"))
    )


def _is_about_file(body: bytes, told: ErrorInfo) -> bool:
    """Whether a 404 is of the input file. The page of a web server speaks of files, too."""
    return body.lstrip()[:1] == b"{" and bool(_ABOUT_FILE.search(f"{told.message} {told.param}"))
