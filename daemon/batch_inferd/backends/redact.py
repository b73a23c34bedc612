"""Keeping credentials out of everything that is written: services like to repeat the key they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from batch_inferd.backends.plan import RequestPlan

MASK = "***"
_MIN_SECRET = 6  # shorter values are words, not secrets: masking them would garble messages
_PLAIN_HEADERS = frozenset({"content-type", "accept", "user-agent", "accept-encoding"})


class Redactor:
    """Replaces a plan's secrets by `***`: header values, the proxy's user, values of the query."""

    def __init__(self, plan: RequestPlan) -> None:
        found: set[str] = set()
        for name, value in plan.headers.items():
            if name.lower() not in _PLAIN_HEADERS:
                found.add(value)
                found.add(value.rpartition(" ")[2])  # `Bearer KEY` is repeated as KEY
        for name, value in plan.query.items():
            if name.lower() != "api-version":
                found.add(value)
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
