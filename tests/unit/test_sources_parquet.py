"""Parquet as a source."""

from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_infer.protocol.errors import InputError
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec

PNG = b"\x89PNG\r\n\x1a\n"


def source(path, **wanted):
    return open_source(detect(str(path), SourceSpec(kind="", **wanted)))


def test_rows_come_by_groups_and_can_be_gone_on_with(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"id": [f"i{n}" for n in range(1000)], "q": [f"问题{n}" for n in range(1000)]})
    pq.write_table(table, path, row_group_size=300)
    found = source(path, prompt="{q}?", id_column="id", start_row=5, end_row=995)
    assert found.count() == 990
    lines = list(found.records())
    assert len(lines) == 990
    assert json.loads(lines[0]) == {
        "custom_id": "i5",
        "messages": [{"role": "user", "content": "问题5?"}],
        "$source": {"row": 5, "columns": {"id": "i5", "q": "问题5"}},
    }
    for at in (0, 293, 295, 600, 989):
        assert list(found.records(at)) == lines[at:]
        assert list(found.records(last=lines[at])) == lines[at + 1 :]


def test_cells_of_all_kinds(tmp_path):
    path = tmp_path / "t.parquet"
    row = {
        "n": 3, "x": 0.5, "flag": True, "none": None, "day": dt.date(2026, 1, 2), "list": ["a", "b"],
        "blob": b"\x00", "image": {"bytes": PNG, "path": "p.png"}, "more": ["a.png"],
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row, row | {"image": None, "more": None}]), path)
    found = source(path, prompt="{n} {x} {flag} [{none}] {day} {list}", image_columns=["image", "more"])
    good, bad = (json.loads(line) for line in found.records())
    text, image, other = good["messages"][0]["content"]
    assert text["text"] == '3 0.5 true [] 2026-01-02 ["a","b"]'
    assert image["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert other["image_url"]["url"] == f"{tmp_path.as_uri()}/a.png"
    assert good["$source"]["columns"]["image"] == "p.png"
    assert bad["$error"] == {
        "class": "image_missing",
        "message": 't.parquet, row 1: there is no image in "image", "more"',
    }


def test_conversations_as_lists(tmp_path):
    path = tmp_path / "t.parquet"
    messages = [{"role": "user", "content": "hi"}]
    pq.write_table(pa.Table.from_pylist([{"messages": messages}, {"messages": None}]), path)
    good, bad = (json.loads(line) for line in source(path).records())
    assert good["messages"] == messages
    assert "$error" in bad


def test_what_is_no_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + b"x" * 50)
    with pytest.raises(InputError, match=r"t\.parquet cannot be read as Parquet"):
        source(path, prompt="x")
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(InputError, match=r'template asks for "b"'):
        source(path, prompt="{b}")
