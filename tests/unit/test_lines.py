"""Lines by offset agree with the plain definition, whatever the blocks, and stay small in memory."""

import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.lines import BOM, read_range, scan_lines

PIECES = [
    b"a",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\n\n",
    b"\r\n",
    BOM,
    b"\xe2\x80\xa8",
    b"\x00",
    b"\xff",
    b'{"x":1}',
]


def expected(data: bytes, start_of_input: bool):
    parts = data.split(b"\n")
    if parts[-1] == b"":
        parts.pop()
    lines, offset = [], 0
    for index, part in enumerate(parts):
        shown = part.removeprefix(BOM) if start_of_input and index == 0 else part
        lines.append((index, offset, len(part), not shown.strip(b" \t\r\n\x0b\x0c")))
        offset += len(part) + 1
    return lines


@given(
    data=st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join),
    block=st.integers(1, 9),
    start_of_input=st.booleans(),
)
def test_agrees_with_split(data, block, start_of_input):
    found = list(scan_lines(io.BytesIO(data).read, start_of_input=start_of_input, block=block))
    assert [tuple(line) for line in found] == expected(data, start_of_input)
    for line in found:
        first = start_of_input and line.index == 0
        text = data[line.offset : line.offset + line.length]
        assert line.blank == (not (text.removeprefix(BOM) if first else text).strip())


@pytest.mark.parametrize(
    ("data", "blanks"),
    [
        (b"", []),
        (b"\n", [True]),
        (BOM, [True]),
        (BOM + b" \r\n", [True]),
        (BOM + b"{}\n" + BOM + b"\n", [False, False]),  # a BOM later on is content, and an error record
        (b"a\rb\n", [False]),
        ("{\u2028}".encode(), [False]),
        ("\u3000".encode(), [False]),  # white space of Unicode is none of JSON's
        (b"\x00\n", [False]),
    ],
)
def test_edges(data, blanks):
    assert [line.blank for line in scan_lines(io.BytesIO(data).read, start_of_input=True)] == blanks


def test_from_a_descriptor_and_back_by_offset(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"one\n\ntwo" * 3)
    with path.open("rb", buffering=0) as file:
        lines = list(scan_lines(file.fileno(), block=4))
        texts = [read_range(file.fileno(), line.offset, line.length) for line in lines]
        assert texts == [b"one", b"", b"twoone", b"", b"twoone", b"", b"two"]
        assert read_range(file.fileno(), 20, 100) == b"ne\n\ntwo"[-4:]
        assert read_range(file.fileno(), 99, 1) == b""


def test_a_line_of_100_mb_is_never_held():
    chunk = b"x" * 65536
    left = 1600

    def read(count: int) -> bytes:
        nonlocal left
        left -= 1
        return chunk[:count] if left > 0 else b"\nlast" if left == 0 else b""

    tracemalloc.start()
    lines = list(scan_lines(read, start_of_input=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(line.length, line.blank) for line in lines] == [(65536 * 1599, False), (4, False)]
    assert peak < 4 * 1024 * 1024
