"""Hiding secrets in what is printed or logged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from batch_inferd.config.expand import is_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"

_SECRET_KEY = re.compile(
    r"(^|[-_])(password|passwd|secret|token|credentials?|authorization|auth|cookie|signature|bearer"
    r"|(api|access|subscription|private|app|account|functions)[-_]?key)($|[-_])|^key$",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
_ASSIGNED = re.compile(
    r"(?im)(\b[\w-]*(?:password|passwd|secret|token|api[-_]?key|authorization)\b[\"']?\s*[:=]\s*)"
    r"(\"[^\"\n]*\"|'[^'\n]*'|\$\{\w+\}(?![^\s,}])|[^\s,}]+)"
)
_KEY_LIKE = re.compile(r"\b(sk|gsk|pk|rk|key)[-_][A-Za-z0-9_-]{12,}")


def mask(value: Any, secrets: Iterable[str] = ()) -> Any:
    """A copy of a text, or of a structure of dicts and lists, with the secrets in it replaced by ***.

    Known by their key (password, headers such as Authorization or X-API-Key), by their form (`Bearer …`,
    `sk-…`, `user:password@` in URLs), or given in `secrets`. A lone `${NAME}` is no secret and stays.
    """
    known = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)
    return _mask(value, known)


def is_secret_key(key: str) -> bool:
    """Whether a key or a header's name says that its value is a secret."""
    return bool(_SECRET_KEY.search(key))


def _mask(value: Any, known: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _mask_item(str(key), item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask(item, known) for item in value]
    return _mask_text(value, known) if isinstance(value, str) else value


def _mask_item(key: str, item: Any, known: list[str]) -> Any:
    if isinstance(item, str) and item and is_secret_key(key):
        return item if is_reference(item) or item.lower() == "none" else MASK
    return _mask(item, known)


def _mask_text(text: str, known: list[str]) -> str:
    for secret in known:
        text = text.replace(secret, MASK)
    text = _USERINFO.sub(MASK, text)
    text = _BEARER.sub(lambda match: f"{match[1]} {MASK}", text)
    text = _ASSIGNED.sub(_mask_assigned, text)
    return _KEY_LIKE.sub(MASK, text)


def _mask_assigned(match: re.Match[str]) -> str:
    plain = match[2].strip("\"'")
    return match[0] if is_reference(plain) or plain.lower() in {"none", "null", "bearer"} else match[1] + MASK
