"""Keeping credentials out of everything that is written: services like to repeat the key they refuse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from batch_inferd.backends.plan import RequestPlan

MASK = "***"
# A header or a query value is a secret by its name; by its length too, as names are anybody's choice.
# Short values of other names are words: masking them would garble messages.
_SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|credential|password|signature", re.IGNORECASE)
_MIN_SECRET = 6
_MIN_UNNAMED = 20
_PLAIN_HEADERS = frozenset({"content-type", "accept", "user-agent", "accept-encoding"})


def _is_secret(name: str, value: str) -> bool:
    return bool(_SECRET_NAME.search(name)) or len(value) >= _MIN_UNNAMED


class Redactor:
    """Replaces a plan's secrets by `***`: header values, the proxy's user, values of the query."""

    def __init__(self, plan: RequestPlan) -> None:
        found: set[str] = set()
        for name, value in plan.headers.items():
            if name.lower() not in _PLAIN_HEADERS and _is_secret(name, value):
                found.add(value)
                found.add(value.rpartition(" ")[2])  # `Bearer KEY` is repeated as KEY
        found |= {value for name, value in plan.query.items() if _is_secret(name, value)}
        for url in (plan.base_url, plan.proxy or ""):
            password = urlsplit(url).password
            if password:
                found |= {password, unquote(password)}
        secrets = sorted((s for s in found if len(s) >= _MIN_SECRET), key=len, reverse=True)
        self._secrets = [(secret, secret.encode("utf-8", "replace")) for secret in secrets]

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret, _ in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def data(self, data: bytes) -> bytes:
        """The bytes without secrets."""
        for _, secret in self._secrets:
            if secret in data:
                data = data.replace(secret, MASK.encode())
        return data
