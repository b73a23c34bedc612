"""Errors in the shape of OpenAI's: `{"error": {"message", "type", "param", "code"}}`.

The messages and codes are those that providers really send: clients tell errors apart by them.
"""

from __future__ import annotations

from typing import Any

import msgspec

_INVALID = "invalid_request_error"


class ApiError(Exception):
    """An answer that is an error; `headers` go with it."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str,
        code: str | None = None,
        *,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def encoded(self) -> bytes:
        """The JSON body as bytes."""
        return msgspec.json.encode(self.body())


def invalid(
    message: str, *, param: str | None = None, code: str | None = None, status: int = 400
) -> ApiError:
    """The request itself is wrong."""
    return ApiError(status, message, _INVALID, code, param=param)


def no_key() -> ApiError:
    """401: no key was sent."""
    return ApiError(
        401,
        "You didn't provide an API key. Provide it in an Authorization header using Bearer auth"
        " (i.e. Authorization: Bearer YOUR_KEY).",
        _INVALID,
    )


def bad_key() -> ApiError:
    """401: the key is not accepted. The message does not repeat it."""
    return ApiError(401, "Incorrect API key provided.", _INVALID, "invalid_api_key")


def forbidden() -> ApiError:
    """403: the key is good, but not for this."""
    return ApiError(
        403, "You have insufficient permissions for this operation.", _INVALID, "insufficient_permissions"
    )


def no_such_model(model: str) -> ApiError:
    """404: the model does not exist."""
    return ApiError(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        _INVALID,
        "model_not_found",
    )


def not_found(message: str, code: str = "not_found") -> ApiError:
    """404 that is not about the model."""
    return ApiError(404, message, _INVALID, code)


def rate_limited(message: str, retry_after: str | None = None) -> ApiError:
    """429: come back later."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return ApiError(429, message, "requests", "rate_limit_exceeded", headers=headers)


def too_large() -> ApiError:
    """429 that no waiting mends: this one request is larger than the whole limit."""
    return ApiError(
        429,
        "Request too large for this model on tokens per min (TPM): Limit 10000, Requested 20000."
        " The input or output tokens must be reduced in order to run successfully.",
        "tokens",
        "rate_limit_exceeded",
    )


def no_quota() -> ApiError:
    """429 as OpenAI says it when the money is spent."""
    return ApiError(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    )


def no_balance() -> ApiError:
    """402 as DeepSeek says it when the money is spent."""
    return ApiError(402, "Insufficient Balance", "unknown_error", _INVALID)


def server_error() -> ApiError:
    """500: the service's own fault."""
    return ApiError(
        500,
        "The server had an error while processing your request. Sorry about that!",
        "server_error",
    )


def overloaded(retry_after: str | None = None) -> ApiError:
    """503: too busy."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return ApiError(
        503,
        "That model is currently overloaded with other requests. Please try again later.",
        "server_error",
        headers=headers,
    )


def unknown_url(method: str, path: str) -> ApiError:
    """404: there is no such route."""
    return not_found(f"Invalid URL ({method} {path})", "unknown_url")
