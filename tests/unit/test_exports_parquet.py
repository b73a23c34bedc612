"""Parquet: types of the input's columns, row groups, and what is said where pyarrow is missing."""

import importlib.util

import pyarrow.parquet
import pytest
from exports_kit import answer, chat, error, exported, row
from journal_kit import Task

from batch_infer.protocol.errors import ConfigError, UsageError
from batch_inferd.config.load import parse_config
from batch_inferd.exports import parquet
from batch_inferd.exports.export import write_export

CONFIG = b"model: {domain: test, password: YOUR_PASSWORD, max_tokens: 9}\noutput: {formats: [parquet]}\n"


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    yield made
    made.close()


def written(task):
    write_export(task.merged, "out", [exported(task)], "parquet")
    return pyarrow.parquet.ParquetFile(task.merged.path / "out")


def test_types_and_nulls(task):
    task.chunk(
        row(0, n=1, x=1, ok=True, mixed=1, big=2**70, text="a\0b", none=None)
        + row(1, n=None, x=2.5, ok=False, mixed="two", big=1, text="二", none=None)
    )
    body = b'{"choices":[{"message":{"content":"half \\ud83d"},"finish_reason":"stop"}]}'
    task.journal(1, "aa", answer(1, body=body) + error(2))
    file = written(task)
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == {
        "n": "int64",
        "x": "double",
        "ok": "bool",
        "mixed": "string",
        "big": "string",
        "text": "string",
        "none": "string",
        "answer": "string",
        "finish_reason": "string",
        "error": "string",
        "input_tokens": "int64",
        "output_tokens": "int64",
    }
    first, second = file.read().to_pylist()
    assert first == {
        "n": 1, "x": 1.0, "ok": True, "mixed": "1", "big": str(2**70), "text": "a\0b", "none": None,
        "answer": "half ?", "finish_reason": "stop", "error": None, "input_tokens": 3, "output_tokens": 4,
    }  # fmt: skip
    assert (second["n"], second["answer"], second["error"]) == (None, None, "bad_request: no")


def test_integers_that_no_float_can_hold(task):
    task.chunk(row(0, n=2**60 + 1, x=2**60 + 1, y=2**53) + row(1, n=1, x=0.5, y=0.5))
    task.journal(1, "aa", answer(1) + answer(2))
    file = written(task)
    assert [str(file.schema_arrow.field(name).type) for name in "nxy"] == ["int64", "string", "double"]
    found = file.read()
    assert found.column("n").to_pylist() == [2**60 + 1, 1]
    assert found.column("x").to_pylist() == [str(2**60 + 1), "0.5"]
    assert found.column("y").to_pylist() == [2.0**53, 0.5]


def test_groups_of_rows_are_bounded(task, monkeypatch):
    monkeypatch.setattr(parquet, "_ROWS", 4)
    task.chunk(b"".join(row(n, a=str(n)) for n in range(10)))
    task.journal(1, "aa", b"".join(answer(n + 1, body=chat(str(n))) for n in range(10)))
    file = written(task)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4, 4, 2]
    assert file.read().column("a").to_pylist() == [str(n) for n in range(10)]


def test_without_pyarrow_the_message_says_what_to_install(task, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "batch_inferd.exports.extra.find_spec", lambda name: None if name == "pyarrow" else found(name)
    )
    task.simple(1)
    with pytest.raises(UsageError, match=r"pip install 'batch_infer\[parquet\]'"):
        write_export(task.merged, "out", [exported(task)], "parquet")
    assert task.merged.listdir() == []
    with pytest.raises(ConfigError) as caught:
        parse_config(CONFIG, "config.yaml")
    (problem,) = caught.value.problems
    assert str(problem).startswith("config.yaml:2:")
    assert "batch_infer[parquet]" in str(problem)


def test_with_pyarrow_the_config_is_fine():
    assert parse_config(CONFIG, "config.yaml").output.formats == ["parquet"]


def test_a_format_that_there_is_none():
    with pytest.raises(ConfigError) as caught:
        parse_config(CONFIG.replace(b"[parquet]", b"[csv, xlsx]"), "config.yaml")
    (problem,) = caught.value.problems
    assert "output.formats must be one of jsonl, qa, csv, tsv, parquet, json, html, svg" in str(problem)
    assert str(problem).startswith("config.yaml:2:25")


def test_one_format_needs_no_list_and_counts_once():
    assert parse_config(CONFIG.replace(b"[parquet]", b"csv"), "c").output.formats == ["csv"]
    assert parse_config(CONFIG.replace(b"[parquet]", b"[qa, csv, qa]"), "c").output.formats == ["qa", "csv"]
    assert parse_config(CONFIG.replace(b"[parquet]", b"[]"), "c").output.formats == []
