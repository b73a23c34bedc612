"""A folder whose names are no UTF-8 (a zip of a Chinese Windows): no image is lost at a stop."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_inferd.images.errors import ImageError
from batch_inferd.images.load import load
from batch_inferd.images.plan import ImagePlan
from batch_inferd.images.refs import path_of
from batch_inferd.intake.linefile import LineFile
from batch_inferd.intake.spool import SpoolSink, SpoolStopped, pour
from batch_inferd.seams.files import Directory
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux only")
GBK = [name.encode("gbk") + b".png" for name in ("图一", "图二", "图三", "图四")]


def source(folder, **more):
    return open_source(detect(os.fsdecode(folder), SourceSpec(kind="folder", prompt="x", **more)))


def fill(folder, names):
    os.makedirs(folder, exist_ok=True)
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"x")


def reference(line):
    return json.loads(line)["messages"][0]["content"][1]["image_url"]["url"]


@settings(max_examples=60, deadline=None)
@given(
    names=st.sets(
        st.binary(min_size=1, max_size=6).filter(lambda b: not set(b) & set(b"/\0") and b[:1] != b"."),
        min_size=1,
    ),
    iterations=st.integers(1, 3),
)
@example(names={name.removesuffix(b".png") for name in GBK}, iterations=1)
@example(names={name.removesuffix(b".png") for name in GBK}, iterations=3)
@example(names={b"a\xcd", "a\ufffd".encode(), b"a%CD", b"a\xcd\xff", b"a\xe4\xb8"}, iterations=2)
def test_going_on_behind_any_line_gives_the_others(names, iterations):
    folder = tempfile.mkdtemp(prefix="folder-names-")
    try:
        fill(folder, [name + b".png" for name in names])
        found = source(folder, iterations=iterations)
        lines = list(found.records())
        assert {os.fsencode(path_of(reference(line))) for line in lines} == {
            os.fsencode(folder) + b"/" + name + b".png" for name in names
        }
        assert len(lines) == len(names) * iterations
        for at, line in enumerate(lines):
            assert list(found.records(last=line)) == lines[at + 1 :]
            assert found.passed(line) == at + 1
    finally:
        shutil.rmtree(os.fsencode(folder))


def test_ids_are_told_apart_and_what_is_shown_is_text(tmp_path):
    fill(tmp_path, [*GBK, b"plain.png"])
    found = [json.loads(line) for line in source(tmp_path).records()]
    assert len({line["custom_id"] for line in found}) == 5
    assert all(line["custom_id"].encode() and line["$source"]["path"].encode() for line in found)
    assert ["raw" in line["$source"] for line in found].count(True) == 3  # one of them is UTF-8 by chance


def test_spooling_that_was_stopped_loses_none(tmp_path):
    fill(tmp_path / "photos", GBK)
    (tmp_path / "task").mkdir()
    directory = Directory(tmp_path / "task")
    asked = iter([False, False, True])
    file = LineFile(directory, "input.jsonl")
    with pytest.raises(SpoolStopped):
        pour(source(tmp_path / "photos"), SpoolSink(file), stop=lambda: next(asked))
    assert file.lines == 2
    file.close()
    file = LineFile(directory, "input.jsonl")
    assert pour(source(tmp_path / "photos"), SpoolSink(file)).records == 4
    file.close()
    directory.close()


def test_a_folder_that_goes_away_while_it_is_walked_is_left_out(tmp_path):
    fill(tmp_path / "a", [b"1.png"])
    fill(tmp_path / "b", [b"2.png"])
    fill(tmp_path / "c", [b"3.png"])
    found = source(tmp_path).records()
    next(found)
    shutil.rmtree(tmp_path / "b")
    assert [json.loads(line)["custom_id"] for line in found] == ["c/3.png"]


def test_a_link_that_leads_nowhere_is_a_record(tmp_path):
    fill(tmp_path, [b"a.png"])
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").symlink_to(tmp_path)
    assert [json.loads(line)["custom_id"] for line in source(tmp_path).records()] == ["a.png", "b.png"]


def test_a_link_to_itself_is_a_record_of_a_missing_image(tmp_path):
    fill(tmp_path, [b"a.png"])
    (tmp_path / "b.png").symlink_to("b.png")
    lines = list(source(tmp_path).records())
    assert [json.loads(line)["custom_id"] for line in lines] == ["a.png", "b.png"]
    with pytest.raises(ImageError, match="does not exist") as caught:
        load(reference(lines[1]), ImagePlan())
    assert caught.value.cls == "image_missing"
