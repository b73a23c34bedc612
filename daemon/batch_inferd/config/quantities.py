"""Kinds with units: times and sizes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from batch_infer.protocol.text import Text
from batch_inferd.config.kinds import IN_RANGE, absent, bound, is_number, write, wrong
from batch_inferd.config.nodes import Node, Scalar
from batch_inferd.config.scalars import found, value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.config.problems import Problems

_PART = r"(\d{1,9}(?:\.\d{1,6})?)"
_DURATION = re.compile(rf"(?:{_PART}d)?(?:{_PART}h)?(?:{_PART}m)?(?:{_PART}s)?")
_DAYS = re.compile(r"\d+d")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?(B|KB|MB|GB|KiB|MiB|GiB)", re.IGNORECASE)
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Duration:
    """A time: a bare number is seconds, or 90s, 30m, 2h, 7d, 1h30m. Bounds in seconds."""

    low: float
    high: float

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Seconds as a float."""
        if absent(node):
            return UNSET
        seconds = _quantity(node, _seconds)
        if seconds is None:
            expected = Text("a time such as 90s, 30m or 2h, or a number of seconds")
            problems.add(node.position, wrong(key, expected, found(node), write("30m")))
            return UNSET
        if not self.low <= seconds <= self.high:
            bounds = {"low": bound(self.low), "high": bound(self.high)}
            expected = Text("a time from {low} to {high} seconds", bounds)
            problems.add(node.position, wrong(key, expected, found(node), IN_RANGE))
            return UNSET
        return float(seconds)


@dataclass(frozen=True)
class Window:
    """A completion window, as services take it: whole hours or days. Bounds in hours."""

    low: int
    high: int

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Such as "24h" or "7d": in days only where it stands there in days."""
        if absent(node):
            return UNSET
        seconds = _quantity(node, _seconds)
        if seconds is None or not math.isfinite(seconds) or seconds % 3600:
            expected = Text("a time in whole hours or days such as 24h or 7d")
            problems.add(node.position, wrong(key, expected, found(node), write(_meant(seconds))))
            return UNSET
        hours = int(seconds) // 3600
        if not self.low <= hours <= self.high:
            bounds = {"low": self.low, "high": self.high}
            problems.add(
                node.position,
                wrong(key, Text("a time from {low} to {high} hours", bounds), found(node), IN_RANGE),
            )
            return UNSET
        in_days = isinstance(node, Scalar) and _DAYS.fullmatch(node.text.strip())
        return f"{hours // 24}d" if in_days else f"{hours}h"


@dataclass(frozen=True)
class Size:
    """A number of bytes: a bare number, or 64MiB, 500KB. Bounds in bytes."""

    low: int
    high: int

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Bytes as an int."""
        if absent(node):
            return UNSET
        size = _quantity(node, _bytes)
        if size is None:
            expected = Text("a size such as 64MiB, or a number of bytes")
            problems.add(node.position, wrong(key, expected, found(node), write("64MiB")))
            return UNSET
        if not self.low <= size <= self.high:
            expected = Text("a size from {low} to {high} bytes", {"low": self.low, "high": self.high})
            problems.add(node.position, wrong(key, expected, found(node), IN_RANGE))
            return UNSET
        return int(size)


def _quantity(node: Node, parse: Callable[[str], float | None]) -> float | None:
    """The node's number, or what `parse` makes of its text; None when it is neither."""
    value = value_of(node) if isinstance(node, Scalar) else None
    if isinstance(value, str):
        return parse(value.strip())
    return value if isinstance(value, int | float) and is_number(value) else None


def _meant(seconds: float | None) -> str:
    """What to write for a completion window: a small bare number was meant in hours."""
    whole = seconds is not None and math.isfinite(seconds) and seconds == int(seconds)
    return f"{int(seconds)}h" if whole and seconds and 0 < seconds <= 720 else "24h"


def _seconds(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if not text or not match:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds


def _bytes(text: str) -> float | None:
    match = _SIZE.fullmatch(text)
    return float(match[1]) * _UNITS[match[2].lower()] if match else None
