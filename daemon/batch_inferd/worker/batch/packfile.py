"""A packed file while it is filled: the requests of one submission."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from batch_inferd.seams.files import sync, write_all

if TYPE_CHECKING:
    from batch_inferd.seams.files import Directory

_BLOCK = 256 * 1024
_NOT_ASCII = bytes(range(128, 256))


class PackFile:
    """Lines are added in input order; `requests` counts what the service counts."""

    def __init__(self, directory: Directory, name: str) -> None:
        """Create it, over what an earlier run of the job may have left. Raises OSError."""
        self.name = name
        self.bytes = 0
        self.requests = 0
        self.inputs = 0  # requests, or more where one holds several (embeddings)
        self.tokens = 0
        self.lines: dict[str, list[list[int]]] = {}  # chunk -> ranges of its lines
        self._last: list[int] | None = None  # the range that may grow
        self._chunk = 0
        self._parts: list[bytes] = []
        self._held = 0
        self._fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def extends(self, chunk: int, number: int) -> bool:
        """Whether line `number` would lengthen the last range rather than begin one."""
        return self._last is not None and self._chunk == chunk and self._last[1] == number - 1

    def add(self, chunk: int, number: int, line: bytes, tokens: int, inputs: int) -> None:
        """The next request. Raises OSError."""
        if self._last is not None and self._chunk == chunk and self._last[1] == number - 1:
            self._last[1] = number
        else:
            self._chunk, self._last = chunk, [number, number]
            self.lines.setdefault(str(chunk), []).append(self._last)
        size = len(line)
        self.bytes += size
        self.requests += 1
        self.inputs += inputs
        self.tokens += tokens
        self._parts.append(line)
        self._held += size
        if self._held >= _BLOCK:
            self._flush()

    def seal(self) -> None:
        """Make its content durable and close it. Raises OSError."""
        self._flush()
        sync(self._fd, self.name)
        fd, self._fd = self._fd, -1
        os.close(fd)

    def abandon(self) -> None:
        """Close it as it is; nothing if it is sealed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _flush(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        write_all(self._fd, data, self.name)

    def to_json(self, url: str, model: str) -> dict[str, Any]:
        """As the daemon is told."""
        return {
            "file": self.name,
            "bytes": self.bytes,
            "requests": self.requests,
            "tokens": self.tokens,
            "url": url,
            "model": model,
            "lines": self.lines,
        }


def estimate_tokens(body: bytes) -> int:
    """Input tokens of a request: a quarter of its ASCII bytes and a third of the others, rounded up."""
    size = len(body)
    if body.isascii():
        return (size + 3) // 4
    plain = len(body.translate(None, _NOT_ASCII))
    return (3 * plain + 4 * (size - plain) + 11) // 12
