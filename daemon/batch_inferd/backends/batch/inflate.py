"""Undoing a reply's compression piece by piece: what little data unpacks to never fills the memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from batch_inferd.backends.transport import SentFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPTED = "gzip, deflate"
PIECE = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_PLAIN = frozenset({"", "identity"})
_KNOWN = _PLAIN | {"gzip", "x-gzip", "deflate"}


class Inflater:
    """For one reply, by its Content-Encoding. Raises SentFailed for what cannot be read."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in _KNOWN:
            raise SentFailed(
                "unparsable", f"the answer has the encoding {name[:50]}, which was not asked for"
            )
        self._plain = name in _PLAIN
        self._gzip = name.endswith("gzip")
        self._head = b""  # of a deflate, until it shows which one it is
        self._stream = zlib.decompressobj(_GZIP) if self._gzip else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The next bytes, in pieces of at most 256 KiB; of plain data, as they came."""
        if self._plain:
            if data:
                yield data
            return
        if self._stream is None:
            self._head += data
            if len(self._head) < 2:
                return
            data, self._head = self._head, b""
            self._stream = zlib.decompressobj(_window(data))
        full = False  # the last piece was: there may be more of it without more data
        while data or full:
            if self._stream.eof:
                data = data.lstrip(b"\0") if self._gzip else b""  # padding
                if not data:
                    return
                self._stream = zlib.decompressobj(_GZIP)  # the next member
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                raise SentFailed("unparsable", "the answer's compression is damaged") from error
            data = self._stream.unconsumed_tail or self._stream.unused_data
            full = len(piece) == PIECE and not self._stream.eof
            if piece:
                yield piece

    def finish(self, received: int) -> None:
        """Nothing comes after `received` bytes. Raises SentFailed when something is missing.

        Nothing at all is fine: an empty body may say that it is compressed.
        """
        if not self._plain and received and (self._stream is None or not self._stream.eof):
            raise SentFailed("truncated", "the compressed answer ended in its middle")


def _window(data: bytes) -> int:
    """Of a deflate: with a zlib header, as the standard wants it, or without, as some servers send it."""
    has_header = data[0] & 0x0F == 8 and (data[0] * 256 + data[1]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
