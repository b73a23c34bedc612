"""The file of -rows, and how records are named in it."""

import json

import pytest
from journal_kit import Task

from batch_infer.protocol.errors import InputError
from batch_inferd.store.taskdb import ChunkRow
from batch_inferd.tasks.chosen_rows import RowReader, read_rows


@pytest.fixture
def rows(tmp_path):
    def read(data):
        (tmp_path / "rows").write_bytes(data)
        return read_rows(str(tmp_path / "rows"))

    return read


def test_numbers_are_rows_and_the_rest_ids(rows):
    chosen = rows(b'\xef\xbb\xbf3\r\n 007 \n\nabc\n"148"\n"a\\"b"\n\xe4\xbd\xa0\n')
    assert chosen.has(3, "x")
    assert chosen.has(7, "x")
    assert not chosen.has(148, "x")
    assert chosen.has(0, "148")
    assert chosen.has(0, 'a"b')
    assert chosen.has(0, "你")
    assert chosen.unmatched == 1
    assert chosen.has(3, "abc")
    assert chosen.unmatched == 0


@pytest.mark.parametrize("data", [b"", b"\n \n", b"x" * 5000, b"1\n" + b"2" * 4096])
def test_what_is_no_list_is_refused(rows, data):
    with pytest.raises(InputError):
        rows(data)


def test_an_entry_that_is_nested_deeply_is_an_id(rows):
    deep = "[" * 4000
    assert rows(deep.encode()).has(0, deep)


def test_a_list_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(str(tmp_path / "nothing"))


def test_the_names_of_records(tmp_path):
    lines = [
        {"custom_id": "a", "messages": []},
        {"messages": []},
        {"custom_id": "7", "$source": {"row": 7, "columns": {}}, "messages": []},
        {"custom_id": "p.png", "$source": {"path": "p.png"}},
        {"custom_id": "q", "$source": "?"},
    ]
    data = b"\n".join(json.dumps(line).encode() for line in lines) + b"\nno JSON"
    task = Task(tmp_path)
    task.chunk(data)
    row = ChunkRow(1, 1, 6, 0, len(data), 6, 0, "", "done", 0, 6, 0, 0, 0, 0, 0)
    with RowReader(task.directory, row) as reader:
        names = [reader.names(index) for index in range(6)]
    task.close()
    assert names == [(0, "a"), (1, "2"), (7, "7"), (3, "p.png"), (4, "q"), (5, "6")]
