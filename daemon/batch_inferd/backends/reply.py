"""What a reply's body says, read without building what nobody asked for.

An answer is stored and handed on as raw bytes; only the token counts, the finish reason and an `error`
object are looked at. Accepted dialects: OpenAI's `{"error": {"message", "type", "code", "param"}}`, an
error that is a bare string, and an error object that is the body itself (`{"code", "message"}`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_inferd.backends import rawjson
from batch_inferd.journal.body import check_body, check_extent

if TYPE_CHECKING:
    from collections.abc import Mapping

_EMPTY = frozenset({b"null", b"[]", b""})
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid")


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the service counted them; None where it did not say.

    `tokens_cached` of `tokens_in` came from the service's cache, and may cost less.
    """

    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None = None


class ErrorInfo(NamedTuple):
    """What a service said about a failure; empty strings where it said nothing."""

    message: str = ""
    kind: str = ""  # the error's `type`
    code: str = ""
    param: str = ""


class Body(msgspec.Struct, frozen=True, gc=False):
    """The facts of a JSON body. `content`: whether it holds choices, data or output."""

    content: bool
    error: ErrorInfo | None
    usage: Usage
    finish_reason: str | None


class _Envelope(msgspec.Struct):
    choices: msgspec.Raw = msgspec.Raw(b"")
    data: msgspec.Raw = msgspec.Raw(b"")
    output: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    usage: msgspec.Raw = msgspec.Raw(b"")


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: msgspec.Raw = msgspec.Raw(b"")
    input_tokens_details: msgspec.Raw = msgspec.Raw(b"")  # of the responses API
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _UsualCounts(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None


class _Usual(msgspec.Struct):
    """What nearly all answers are; what is not of this shape is read by `_Envelope`."""

    choices: list[_Choice]
    usage: _UsualCounts | None = None
    error: None = None


_usual = msgspec.json.Decoder(_Usual).decode
_envelope = msgspec.json.Decoder(_Envelope)
_choices = msgspec.json.Decoder(list[_Choice])
_counts = msgspec.json.Decoder(_Counts)
_details = msgspec.json.Decoder(_Details)


def read_body(body: bytes) -> Body:
    """The facts of a body that must be a JSON object. Raises rawjson.InvalidJson."""
    return _read_usual(body) or read_any(body)


def read_any(body: bytes) -> Body:
    """As `read_body`, step by step. Raises rawjson.InvalidJson."""
    problem = check_body(body)
    if problem:
        raise rawjson.InvalidJson(problem)
    if body.lstrip()[:1] == b"[":
        # Gemini's OpenAI-compatible endpoint wraps its error object in a list.
        if b'"error"' not in body:
            raise rawjson.InvalidJson("not a JSON object")
        return Body(content=False, error=read_error(body), usage=Usage(None, None), finish_reason=None)
    try:
        envelope = _envelope.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _read_slowly(body)
    return Body(
        content=any(bytes(raw) not in _EMPTY for raw in (envelope.choices, envelope.data, envelope.output)),
        error=_error_of(envelope.error),
        usage=_usage_of(envelope.usage),
        finish_reason=_finish_of(envelope.choices),
    )


def _read_usual(body: bytes) -> Body | None:
    """In one pass; None where that does not do."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return None
    try:
        found = _usual(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    if not found.choices or check_extent(body) is not None:
        return None
    counts = found.usage
    if counts is None:
        return Body(True, None, Usage(None, None), found.choices[0].finish_reason)
    details, cached = counts.prompt_tokens_details, counts.prompt_cache_hit_tokens
    if details is not None and cached is None:
        cached = details.cached_tokens
    if cached is not None:
        cached = min(max(0, cached), counts.prompt_tokens)
    usage = Usage(counts.prompt_tokens, counts.completion_tokens, cached)
    return Body(True, None, usage, found.choices[0].finish_reason)


def read_error(body: bytes) -> ErrorInfo:
    """What a failed reply says about itself; its text, shortened, where it is not JSON."""
    try:
        value = rawjson.loads(body)
    except rawjson.InvalidJson:
        return ErrorInfo(message=" ".join(body[:2048].decode("utf-8", "replace").split())[:500])
    if isinstance(value, list) and value:
        value = value[0]  # Gemini's OpenAI-compatible endpoint wraps its error object in a list
    inner = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(value, dict) and isinstance(value.get("base_resp"), dict):  # MiniMax, beside empty choices
        inner = {
            "code": value["base_resp"].get("status_code"),
            "message": value["base_resp"].get("status_msg"),
        }
    if isinstance(inner, bool | int | float | None):
        inner = value  # `{"error": true, "message": …}`: the body is the error
    if isinstance(inner, dict) and not inner.get("message") and isinstance(value, dict):
        inner = {**value, **inner}
    return _error_info(inner)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The service's own id of the request, from whichever header it uses."""
    for name in _REQUEST_ID_HEADERS:
        if (value := headers.get(name)) is not None:
            return value
    return None


def _read_slowly(body: bytes) -> Body:
    """For what msgspec refuses and `json` reads: the escape of a lone surrogate."""
    value = rawjson.loads(body)
    if not isinstance(value, dict):
        raise rawjson.InvalidJson("not a JSON object")
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    reason = first.get("finish_reason") if isinstance(first, dict) else None
    usage = value.get("usage")
    error = value.get("error")
    return Body(
        content=any(value.get(name) not in (None, []) for name in ("choices", "data", "output")),
        error=None if error is None else _error_info(error),
        usage=_usage_of(
            msgspec.Raw(msgspec.json.encode(usage)) if isinstance(usage, dict) else msgspec.Raw(b"")
        ),
        finish_reason=reason if isinstance(reason, str) else None,
    )


def _error_of(raw: msgspec.Raw) -> ErrorInfo | None:
    data = bytes(raw)
    return None if data in _EMPTY else _error_info(rawjson.loads(data))


def _error_info(value: Any) -> ErrorInfo:
    if not isinstance(value, dict):
        return ErrorInfo(message=str(value)[:500])
    return ErrorInfo(
        message=_text(value.get("message") or value.get("detail") or value.get("msg"))[:2000],
        kind=_text(value.get("type") or value.get("status"))[:200],
        code=_text(value.get("code"))[:200],
        param=_text(value.get("param"))[:200],
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _usage_of(raw: msgspec.Raw) -> Usage:
    data = bytes(raw)
    if data in _EMPTY:
        return Usage(None, None)
    try:
        return _usage(_counts.decode(data))
    except (msgspec.DecodeError, RecursionError):
        return Usage(None, None)  # counts of a shape that we do not know count as unknown


def _usage(counts: _Counts | None) -> Usage:
    if counts is None:
        return Usage(None, None)
    tokens_in = counts.input_tokens if counts.prompt_tokens is None else counts.prompt_tokens
    tokens_out = counts.output_tokens if counts.completion_tokens is None else counts.completion_tokens
    if tokens_in is not None and tokens_out is None and counts.total_tokens == tokens_in:
        tokens_out = 0  # embeddings put nothing out and leave the field away
    cached = _cached(counts)
    if cached is None or tokens_in is None:
        return Usage(tokens_in, tokens_out)
    return Usage(tokens_in, tokens_out, min(max(0, cached), tokens_in))


def _cached(counts: _Counts) -> int | None:
    """Input tokens that came from the service's cache, as far as it says so."""
    if counts.prompt_cache_hit_tokens is not None:
        return counts.prompt_cache_hit_tokens
    details = bytes(counts.prompt_tokens_details) or bytes(counts.input_tokens_details)
    if b"cached" not in details:
        return None
    try:
        return _details.decode(details).cached_tokens
    except (msgspec.DecodeError, RecursionError):
        return None


def _finish_of(raw: msgspec.Raw) -> str | None:
    try:
        choices = _choices.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return choices[0].finish_reason if choices else None
