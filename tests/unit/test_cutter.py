"""Cutting: slices are exact, counts are those of an independent reader, positions go on."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_inferd.intake import cutter, source
from batch_inferd.journal import names
from batch_inferd.seams.files import Directory

LINES = st.lists(
    st.sampled_from(
        [b'{"messages":[]}', b"", b"  ", b"\r", b"\t\r", b"x" * 70, b"\xe2\x80\xa8", b"{\rx", b"\xff\x00"]
    ),
    max_size=30,
)


def cut_all(folder: Path, data: bytes, per_chunk: int, limit: int = 0, step: int = 3):
    folder.mkdir(exist_ok=True)
    path = folder / "in.jsonl"
    path.write_bytes(data)
    task = folder / "task"
    task.mkdir()
    directory = Directory(task)
    fd = os.open(path, os.O_RDONLY)
    rows, at = [], cutter.START
    try:
        while not cutter.is_end(at, len(data), limit):
            more, at = cutter.cut(directory, fd, len(data), at, per_chunk=per_chunk, limit=limit, count=step)
            rows += more
        assert cutter.verify(directory, fd, rows) is None
    finally:
        os.close(fd)
        directory.close()
    return rows, at, task


@settings(max_examples=150, deadline=None)
@given(
    lines=LINES, final=st.booleans(), bom=st.booleans(), per_chunk=st.integers(1, 7), limit=st.integers(0, 9)
)
def test_chunks_are_exact_slices(tmp_path_factory, lines, final, bom, per_chunk, limit):
    data = (b"\xef\xbb\xbf" if bom else b"") + b"\n".join(lines) + (b"\n" if final and lines else b"")
    rows, at, task = cut_all(tmp_path_factory.mktemp("cut"), data, per_chunk, limit)
    joined = b"".join((task / names.chunk_name(row.n)).read_bytes() for row in rows)
    assert data.startswith(joined)
    whole = data.split(b"\n")
    if whole[-1] == b"":
        whole.pop()
    whole = [line.removeprefix(b"\xef\xbb\xbf") if n == 0 else line for n, line in enumerate(whole)]
    full = sum(1 for line in whole if line.strip())
    wanted = min(full, limit) if limit else full
    assert sum(row.records for row in rows) == wanted == at.records
    if not limit:
        assert joined == data
        assert sum(row.lines for row in rows) == len(whole)
    line = 1
    for row in rows:
        assert row.first_line == line
        assert row.records + row.blank == row.lines
        assert row.records <= per_chunk
        line += row.lines


def test_changed_input_is_noticed(tmp_path):
    data = b"".join(b'{"n":%d}\n' % n for n in range(50))
    rows, _, task = cut_all(tmp_path, data, 7)
    path = tmp_path / "in.jsonl"
    path.write_bytes(data.replace(b'"n":30', b'"n":31'))
    directory = Directory(task)
    fd = os.open(path, os.O_RDONLY)
    assert cutter.verify(directory, fd, rows) == 5  # lines 29 to 35
    os.close(fd)
    directory.close()


def test_a_line_longer_than_a_block_is_one_record(tmp_path):
    long = b'{"a":"' + b"y" * (3 * source.BLOCK) + b'"}'
    rows, _, _ = cut_all(tmp_path, b"a\n" + long + b"\n" + long, 1)
    assert [row.records for row in rows] == [1, 1, 1]
    assert rows[2].bytes == len(long)


@pytest.fixture
def opened(tmp_path):
    """A task's folder, an input of 40 lines of 100,000 bytes, and its length."""
    (tmp_path / "task").mkdir()
    path = tmp_path / "in.jsonl"
    path.write_bytes((b"x" * 99_999 + b"\n") * 40)
    directory, fd = Directory(tmp_path / "task"), os.open(path, os.O_RDONLY)
    yield directory, fd, path
    os.close(fd)
    directory.close()


SIZE = 4_000_000


def cut_opened(directory, fd, start=cutter.START, per_chunk=30, **more):
    return cutter.cut(directory, fd, SIZE, start, per_chunk=per_chunk, limit=0, count=9, **more)


@pytest.mark.parametrize("left", [0, 1, 1_500_000, 1_550_000, 3_000_000, 3_050_000, SIZE - 1])
def test_an_input_that_becomes_shorter_is_cut_no_further(opened, left):
    directory, fd, path = opened
    with path.open("r+b") as file:
        file.truncate(left)
    with pytest.raises(cutter.InputShrunk):
        cut_opened(directory, fd)


def test_an_input_that_becomes_shorter_between_two_blocks(opened, monkeypatch):
    directory, fd, path = opened
    real = cutter.write_all

    def write_all(*args):
        real(*args)
        os.truncate(path, source.BLOCK)  # at a block's end, and amid a line

    monkeypatch.setattr(cutter, "write_all", write_all)
    with pytest.raises(cutter.InputShrunk):
        cut_opened(directory, fd)


def test_cutting_can_be_stopped_and_done_again(opened):
    directory, fd, _ = opened
    asked = []
    with pytest.raises(cutter.CutStopped):
        cut_opened(directory, fd, stop=lambda: asked.append(1) or len(asked) > 2)
    assert len(asked) == 3  # once a block
    rows, at = cut_opened(directory, fd)
    assert (sum(row.bytes for row in rows), at.offset) == (SIZE, SIZE)
    with pytest.raises(cutter.CutStopped):
        cutter.verify(directory, fd, rows, stop=lambda: True)
    assert cutter.verify(directory, fd, rows, stop=lambda: False) is None


@pytest.mark.parametrize("tail", [b"", b"\n", b"\n\n  \n", b"\nlast"])
def test_count_records_agrees(tmp_path, tail):
    data = b"a\n\n b \r\n" + b"z" * (source.BLOCK + 5) + tail
    path = tmp_path / "f"
    path.write_bytes(data)
    expected = sum(1 for line in data.split(b"\n") if line.strip())
    assert source.count_records(str(path), 0, len(data), lambda: False, 1 << 40) == (expected, True)
    count, complete = source.count_records(str(path), 0, len(data), lambda: False, 4)
    assert (count, complete) == (1, False)


def test_pin_refuses_what_is_no_file(tmp_path):
    with pytest.raises(source.InputError):
        source.pin(str(tmp_path))
    with pytest.raises(source.InputError):
        source.pin(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(source.InputError):
        source.pin(str(tmp_path / "fifo"))


def test_blank_lines_without_end_fill_no_chunk(tmp_path):
    blanks = cutter.CHUNK_BLANKS * 2 + 500
    data = b'{"a":1}\n' + b"\n" * blanks + b'{"a":2}\n'
    rows, _, _ = cut_all(tmp_path, data, per_chunk=1000)
    assert sum(row.blank for row in rows) == blanks
    assert sum(row.records for row in rows) == 2
    assert max(row.blank for row in rows) < cutter.CHUNK_BLANKS + 1001
