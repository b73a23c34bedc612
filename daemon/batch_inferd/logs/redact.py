"""Masking secrets: whoever learns a credential registers it, and no log line shows it from then on."""

from __future__ import annotations

import json
import re
import threading
import urllib.parse

MASK = "***"
SHORTEST = 4  # masking shorter ones would tear every line apart, and tell where they are

_lock = threading.Lock()
_secrets: set[str] = set()
_pattern: re.Pattern[str] | None = None


def register_secret(value: str) -> None:
    """Mask `value` from now on, also as it looks inside JSON, a repr, or a URL. Shorter than 4: not."""
    global _pattern  # noqa: PLW0603  one pattern for the process, swapped as a whole
    shapes = {
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        urllib.parse.quote(value, safe="", errors="replace"),
        urllib.parse.quote_plus(value, errors="replace"),
    }
    shapes = {shape for shape in shapes if len(shape) >= SHORTEST}
    if len(value) < SHORTEST:
        return
    with _lock:
        if shapes <= _secrets:
            return
        _secrets.update(shapes)
        # The longest first: a secret may begin with another one.
        _pattern = re.compile("|".join(re.escape(s) for s in sorted(_secrets, key=len, reverse=True)))


def redact(text: str) -> str:
    """`text` with every registered secret masked."""
    pattern = _pattern
    return text if pattern is None else pattern.sub(MASK, text)
