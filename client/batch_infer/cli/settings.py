"""Settings on the command line: `-concurrency N` and its like, and `KEY=VALUE` of -set.

The daemon knows which keys and values there are; here it is only seen to that each is given once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import UsageError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

# Flags of -pipeline and -resume that stand for settings.
FLAGS = ("mode", "processes", "concurrency", "priority", "log-dir", "log-level")
_PATHS = frozenset({"log_dir"})


def settings_params(words: Iterable[str]) -> dict[str, Any]:
    """The part of a request that carries settings; nothing where there are none."""
    settings = parse_settings(words)
    return {"settings": settings} if settings else {}


def parse_settings(words: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` words as an object; `-` in a key is `_`. Paths become absolute.

    Raises UsageError: a value without a key, or a key twice.
    """
    settings: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        key = name.strip().replace("-", "_")
        if not key:
            raise UsageError(Text("{word!r} has no key before its equals sign", {"word": word}))
        if key in _PATHS and value:
            value = os.path.abspath(os.path.expanduser(value))
        if settings.setdefault(key, value) != value:
            raise UsageError(Text("{flag} is given twice", {"flag": key}))
    return settings
