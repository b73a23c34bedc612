"""Archives that are cut or damaged: what can be unpacked is read, and the end is told."""

import gzip
import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_infer.protocol.errors import InputError
from batch_inferd.sources import files

DATA = b"".join(b'{"n":%d}\n' % random.Random(n).getrandbits(64) for n in range(20_000))
PACKED = gzip.compress(DATA, mtime=0)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("archives") / "a.gz"


def unpack(path, packed, compression="gz"):
    """What was unpacked, and what was said in the end."""
    path.write_bytes(packed)
    blocks = []
    try:
        for block in files.read_blocks(str(path), compression):
            assert 0 < len(block) <= files.BLOCK
            blocks.append(block)
    except InputError as error:
        return b"".join(blocks), str(error)
    return b"".join(blocks), ""


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, len(PACKED) - 1))
def test_what_stands_before_the_cut_is_read(path, size):
    found, said = unpack(path, PACKED[:size])
    assert DATA.startswith(found)
    assert len(found) > len(DATA) * (size - 40_000) / len(PACKED)
    assert f"cut short: it ends in its middle, after {len(found)} unpacked bytes" in said


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_the_first_lines_of_a_short_rest(path, compression):
    packed = PACKED if compression == "gz" else zstandard.compress(DATA)
    path.write_bytes(packed[:60_000])
    assert files.head(str(path), compression, 1000) == DATA[:1000]


def test_several_in_one_file_and_filled_up_with_zeros(path):
    empty = gzip.compress(b"")
    more = b"0" * 3_000_000  # of few bytes
    assert unpack(path, empty + PACKED + bytes(70_000) + gzip.compress(more) + bytes(512)) == (
        DATA + more,
        "",
    )
    assert unpack(path, empty) == (b"", "")


def test_damage(path):
    found, said = unpack(path, PACKED[:90_000] + bytes(200) + PACKED[90_200:])
    assert "damaged after" in said
    assert found
    assert unpack(path, PACKED + b"rest")[1].startswith("the compressed input")
    wrong = PACKED[:-8] + bytes(8)
    assert "damaged after" in unpack(path, wrong)[1]
