"""Parquet that holds images: rows of nothing else, and as much memory as a few of them take."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_inferd.sources import parquet
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec

PNG = b"\x89PNG\r\n\x1a\n"


def records(path, **wanted):
    spec = detect(str(path), SourceSpec(kind="", prompt="Describe", image_columns=["image"], **wanted))
    return [json.loads(line) for line in open_source(spec).records()]


def classes(path):
    return [line.get("$error", {}).get("class") for line in records(path)]


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("kind", "full", "empty"),
    [
        (pa.binary(), PNG, b""),
        (pa.binary(), PNG, None),
        (STRUCT, {"bytes": PNG, "path": None}, {"bytes": None, "path": None}),
        (STRUCT, {"bytes": PNG, "path": None}, {"bytes": b"", "path": ""}),
        (STRUCT, {"bytes": None, "path": "/x.png"}, None),
        (pa.list_(STRUCT), [{"bytes": PNG, "path": "x.png"}], []),
        (pa.list_(pa.binary()), [PNG, PNG], []),
    ],
)
def test_a_row_with_nothing_but_an_image_is_a_request(tmp_path, kind, full, empty):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": pa.array([full, empty, full], kind)}), path)
    good, bad, again = records(path)
    assert good["messages"][0]["content"][1]["image_url"]["url"].startswith(
        ("data:image/png;base64,", "file:///x")
    )
    assert "all its cells are empty" in bad["$error"]["message"]
    assert "messages" in again


def test_an_empty_image_beside_other_cells_is_missing(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"q": ["a", "b"], "image": [PNG, b""]}), path)
    assert classes(path) == [None, "image_missing"]


def test_what_a_row_raises_ends_it_alone(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": ["a.png", "bad", "c.png"]}), path)
    real = parquet._images

    def explode(value):
        if value == "bad":
            raise ZeroDivisionError
        return real(value)

    monkeypatch.setattr(parquet, "_images", explode)
    assert classes(path) == [None, "invalid_input", None]


def test_rows_of_any_weight_come_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_BYTES", 1000)
    path = tmp_path / "t.parquet"
    sizes = [0, 5000, 10, 10, 10, 3000, 3000, *[1] * 300, 9000]
    pq.write_table(pa.table({"image": [PNG + bytes(size) for size in sizes]}), path, row_group_size=100)
    found = records(path)
    urls = [record["messages"][0]["content"][1]["image_url"]["url"] for record in found]
    assert [len(base64.b64decode(url.partition(",")[2])) - len(PNG) for url in urls] == sizes
    assert [record["$source"]["row"] for record in found] == list(range(len(sizes)))


_PEAK = r"""
import re, sys
from pathlib import Path
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec
spec = detect(sys.argv[1], SourceSpec(kind="", prompt="p", image_columns=["image"]))
count = sum(1 for _ in open_source(spec).records())
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
print(count, int(peak) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it asks /proc")
def test_memory_does_not_grow_with_the_images(tmp_path):
    path = tmp_path / "t.parquet"
    schema = pa.schema([("image", pa.binary())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(15):
            writer.write_table(pa.table({"image": [PNG + os.urandom(2**20) for _ in range(16)]}, schema))
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True, timeout=60
    )
    count, peak = map(int, done.stdout.split())
    assert count == 240
    assert peak < 250  # MiB, of which pyarrow alone takes 100
