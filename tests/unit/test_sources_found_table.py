"""A folder stands for the table in it, if there is one."""

from __future__ import annotations

import gzip
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from batch_infer.protocol.errors import InputError
from batch_inferd.config.schema import Input
from batch_inferd.intake.choose import describe, found_note
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec

if TYPE_CHECKING:
    from pathlib import Path

ROWS = "question,image\nwhat?,a.png\n"


def found(folder: Path, **wanted: Any) -> SourceSpec:
    return detect(str(folder), SourceSpec(kind=wanted.pop("kind", ""), **wanted))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images beside what looks like a table, but is none that counts."""
    place = tmp_path / "data"
    (place / "deeper").mkdir(parents=True)
    (place / "folder.csv").mkdir()
    (place / "a.png").write_bytes(b"x")
    (place / "deeper" / "far.csv").write_text(ROWS)
    (place / ".hidden.csv").write_text(ROWS)
    (place / "notes.txt").write_text("x")
    return place


def test_without_a_table_it_is_a_folder_of_images(folder: Path) -> None:
    assert found(folder).kind == "folder"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_to_itself_is_no_table(folder: Path) -> None:
    (folder / "t.csv").symlink_to("t.csv")
    assert found(folder).kind == "folder"


@pytest.mark.parametrize(("name", "kind"), [("Q.CSV", "csv"), ("q.tsv", "tsv"), ("q.csv.gz", "csv")])
def test_the_only_table_is_taken_and_its_images_are_beside_it(folder: Path, name: str, kind: str) -> None:
    rows = ROWS.replace(",", "\t") if kind == "tsv" else ROWS
    data = gzip.compress(rows.encode()) if name.endswith(".gz") else rows.encode()
    (folder / name).write_bytes(data)
    spec = found(folder, prompt="{question}", image_columns=["image"])
    assert (spec.kind, spec.path) == (kind, str(folder / name))
    (line,) = open_source(spec).records()
    image = json.loads(line)["messages"][0]["content"][1]["image_url"]["url"]
    assert image == (folder / "a.png").as_uri()
    (note,) = found_note(str(folder), spec)
    assert str(folder / name) in str(note)
    assert found_note(spec.path, spec) == ()
    assert found(folder, kind="csv").path == spec.path
    assert found(folder, kind="folder", prompt="p").kind == "folder"


def test_of_several_one_has_to_be_named(folder: Path) -> None:
    for number in range(30):
        (folder / f"t{number:02}.csv").write_text(ROWS)
    with pytest.raises(InputError) as caught:
        found(folder)
    told = str(caught.value)
    assert "30 tables lie in the folder" in told
    assert ": t00.csv, t01.csv, " in told
    assert told.endswith("t19.csv, …")
    hints = " ".join(str(hint) for hint in caught.value.hints)
    assert str(folder / "t00.csv") in hints
    assert "input.format: folder" in hints
    assert found(folder, kind="folder", prompt="p").kind == "folder"


def test_the_config_says_what_becomes_of_it(folder: Path) -> None:
    (folder / "q.csv").write_text(ROWS)
    spec = describe(str(folder), Input(prompt="{question}"), "messages", str(folder))
    assert spec.path == str(folder / "q.csv")
    assert describe(str(folder), Input(format="folder"), "messages", "").kind == "folder"
