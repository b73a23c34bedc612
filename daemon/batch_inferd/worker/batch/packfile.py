"""A packed file while it is filled: the requests of one submission."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from batch_inferd.seams.files import sync, write_all
from batch_inferd.worker.batch.holed import end_frame, image_frame, text_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_inferd.images.cutout import Cutout
    from batch_inferd.money.budget import Most
    from batch_inferd.seams.files import Directory

_BLOCK = 256 * 1024
_NOT_ASCII = bytes(range(128, 256))


class PackFile:
    """Lines are added in input order; `requests` counts what the service counts.

    `bytes` are those that are sent. A `holed` file is smaller on the disk: see `holed`.
    """

    def __init__(self, directory: Directory, name: str, *, holed: bool = False) -> None:
        """Create it, over what an earlier run of the job may have left. Raises OSError."""
        self.name = name
        self.holed = holed
        self.bytes = 0
        self.requests = 0
        self.inputs = 0  # requests, or more where one holds several (embeddings)
        self.tokens = 0
        self.most: list[int] | None = None  # tokens, for a budget: in and out of all, and of one line
        self.lines: dict[str, list[list[int]]] = {}  # chunk -> ranges of its lines
        self._last: list[int] | None = None  # the range that may grow
        self._chunk = 0
        self._text: list[bytes] = []
        self._write: list[bytes] = []  # what comes before that text
        self._held = 0
        self._fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def extends(self, chunk: int, number: int) -> bool:
        """Whether line `number` would lengthen the last range rather than begin one."""
        return self._last is not None and self._chunk == chunk and self._last[1] == number - 1

    def add(
        self, chunk: int, number: int, line: Sequence[bytes | Cutout], size: int, tokens: int, inputs: int
    ) -> None:
        """The next request, of `size` bytes as it is sent. Images are for a `holed` file. Raises OSError."""
        if self._last is not None and self._chunk == chunk and self._last[1] == number - 1:
            self._last[1] = number
        else:
            self._chunk, self._last = chunk, [number, number]
            self.lines.setdefault(str(chunk), []).append(self._last)
        self.bytes += size
        self.requests += 1
        self.inputs += inputs
        self.tokens += tokens
        for part in line:
            if isinstance(part, bytes):
                self._text.append(part)
                self._held += len(part)
            else:
                self._end_text()
                self._write.append(image_frame(part))
                self._held += len(self._write[-1])
        if self._held >= _BLOCK:
            self._flush()

    def weigh(self, most: Most) -> None:
        """The most tokens that the request which was just added may have."""
        known = self.most or [0, 0, 0, 0]
        self.most = [
            known[0] + most.input,
            known[1] + most.output,
            max(known[2], most.input),
            max(known[3], most.output),
        ]

    def seal(self) -> None:
        """Make its content durable and close it. Raises OSError."""
        self._end_text()
        if self.holed:
            self._write.append(end_frame(self.bytes))
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

    def _end_text(self) -> None:
        text = b"".join(self._text)
        self._text.clear()
        self._write.append(text_frame(text) if self.holed else text)

    def _flush(self) -> None:
        self._end_text()
        data = b"".join(self._write)
        self._write.clear()
        self._held = 0
        write_all(self._fd, data, self.name)

    def to_json(self, url: str, model: str) -> dict[str, Any]:
        """As the daemon is told."""
        return {
            "file": self.name,
            "bytes": self.bytes,
            "holed": self.holed,
            "requests": self.requests,
            "tokens": self.tokens,
            "most": self.most,
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
