"""Compressed answers, taken out piece by piece: what comes out is bounded before it is made."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import brotli

if TYPE_CHECKING:
    from collections.abc import Iterator

# zstd is left out: its libraries cannot be told how much may come out of what they are given.
OFFERED = "gzip, deflate, br"
_PIECE = 64 * 1024
_MEMBER = b"\x1f"  # what a member of gzip begins with


class Garbled(ValueError):  # noqa: N818  it is what the data is
    """The data is not what its coding says."""


class Unknown(ValueError):  # noqa: N818  as above
    """The data is in a coding that was not offered."""


class Decoder(Protocol):
    """One answer's."""

    @property
    def finished(self) -> bool:
        """Whether the data has come to its end."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of it, in pieces of some 64 KB. Raises Garbled."""


def decoder_of(coding: str) -> Decoder | None:
    """None for data that is not compressed. Raises Unknown."""
    name = coding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip"):
        return _Zlib(zlib.MAX_WBITS | 16)
    if name == "deflate":
        return _Zlib(zlib.MAX_WBITS)
    if name == "br":
        return _Brotli()
    raise Unknown(f"it is compressed in a way that was not asked for: {name[:40]!r}")


class _Zlib:
    """gzip, of one member or several; and deflate, which some servers send without its frame."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inflate = zlib.decompressobj(bits)
        self._begun = False

    @property
    def finished(self) -> bool:
        return self._inflate.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._begun and data:
            self._begun = True
            if self._bits == zlib.MAX_WBITS and data[0] & 0x0F != 8:  # no frame: 8 is its method
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        while True:
            if self._inflate.eof:
                if not data.startswith(_MEMBER) or self._bits == zlib.MAX_WBITS:
                    return
                self._inflate = zlib.decompressobj(self._bits)
            try:
                piece = self._inflate.decompress(data, _PIECE)
            except zlib.error as error:
                raise Garbled(str(error)) from error
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < _PIECE:
                return


class _Brotli:
    def __init__(self) -> None:
        self._decompress = brotli.Decompressor()

    @property
    def finished(self) -> bool:
        return bool(self._decompress.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            # It takes all that it is given, and keeps what did not come out.
            while piece := self._decompress.process(data, output_buffer_limit=_PIECE):
                yield piece
                data = b""
        except brotli.error as error:
            raise Garbled(str(error)) from error
