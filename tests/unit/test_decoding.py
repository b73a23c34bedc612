"""Compressed answers in pieces of any size: what was packed comes out, or Garbled; never too much at once."""

from __future__ import annotations

import contextlib
import gzip
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.backends.decoding import OFFERED, Garbled, Unknown, decoder_of


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACK = {
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]),
    " Deflate": zlib.compress,
    "deflate": raw_deflate,
    "br": brotli.compress,
}


def unpack(coding: str, packed: bytes, step: int) -> tuple[bytes, bool]:
    decoder = decoder_of(coding)
    assert decoder is not None
    pieces = [piece for at in range(0, len(packed), step) for piece in decoder.feed(packed[at : at + step])]
    assert all(len(piece) <= 128 * 1024 for piece in pieces)
    return b"".join(pieces), decoder.finished


@given(
    st.sampled_from(sorted(PACK)),
    st.binary(max_size=300) | st.integers(1, 400_000).map(bytes),
    st.integers(1, 70_000),
)
def test_what_was_packed_comes_out(coding, data, step):
    packed = PACK[coding](data)
    assert unpack(coding, packed, max(step, len(packed) // 500)) == (data, True)


@given(st.sampled_from(["gzip", " Deflate", "br"]), st.binary(min_size=1, max_size=300), st.data())
def test_what_was_cut_is_not_finished(coding, data, draw):
    packed = PACK[coding](data)
    cut = packed[: draw.draw(st.integers(0, len(packed) - 1))]
    came, finished = unpack(coding, cut, 7)
    assert not finished
    assert data.startswith(came)


@given(st.sampled_from(["gzip", "deflate", "br"]), st.binary(max_size=200))
def test_anything_is_read_or_garbled(coding, data):
    with contextlib.suppress(Garbled):
        unpack(coding, data, 13)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_stands_behind_the_end_does_not_count(coding):
    assert unpack(coding, PACK[coding](b"whole") + b"\n", 1000) == (b"whole", True)
    assert unpack(coding, PACK[coding](b"whole") + b"\n", 1) == (b"whole", True)


def test_what_was_not_asked_for_is_told():
    assert OFFERED == "gzip, deflate, br"
    assert decoder_of("identity") is decoder_of(" ") is None
    for coding in ("zstd", "gzip, gzip", "x" * 100):
        with pytest.raises(Unknown, match="not asked for") as caught:
            decoder_of(coding)
        assert len(str(caught.value)) < 120
