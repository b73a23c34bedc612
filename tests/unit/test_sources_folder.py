"""Folders of images, topics, and what a path is."""

from __future__ import annotations

import json
import os

import pytest

from batch_infer.protocol.errors import InputError
from batch_inferd.sources import s3
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec


def source(path, **wanted):
    return open_source(detect(str(path), SourceSpec(kind=wanted.pop("kind", ""), **wanted)))


def paths(found):
    return [json.loads(line)["$source"]["path"] for line in found]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name in (
        "b.jpg",
        "a/2.PNG",
        "a/1.png",
        "a.png",
        "a b/é.webp",
        ".hidden.png",
        ".git/x.png",
        "notes.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_a_folder_of_images(photos):
    found = source(photos, prompt="Describe {name} of {path}: {stem}", system="Be brief")
    assert found.count() == 5
    lines = list(found.records())
    assert paths(lines) == ["a b/é.webp", "a.png", "a/1.png", "a/2.PNG", "b.jpg"]
    assert json.loads(lines[0]) == {
        "custom_id": "a b/é.webp",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Describe é.webp of a b/é.webp: é"},
                    {"type": "image_url", "image_url": {"url": f"{photos.as_uri()}/a%20b/%C3%A9.webp"}},
                ],
            },
        ],
        "$source": {"row": 0, "path": "a b/é.webp"},
    }
    assert set(found.pin()) == {"path", "device", "inode"}


def test_ranges_and_patterns_of_a_folder(photos):
    assert paths(source(photos, prompt="p", start_row=1, end_row=3).records()) == ["a.png", "a/1.png"]
    assert paths(source(photos, prompt="p", pattern=["*.TXT", "b.*"]).records()) == ["b.jpg", "notes.txt"]
    assert source(photos, prompt="p", start_row=4, iterations=3).count() == 3


def test_a_folder_goes_on_behind_the_last_path_whatever_came_or_went(photos):
    found = source(photos, prompt="p", iterations=2)
    lines = list(found.records())
    last = lines[4]  # a/1.png, the first time
    (photos / "a.png").unlink()
    (photos / "a b/another.png").write_bytes(b"x")
    (photos / "a/15.png").write_bytes(b"x")
    rest = [json.loads(line) for line in found.records(last=last)]
    assert [line["custom_id"] for line in rest] == [
        "a/1.png/2", "a/15.png/1", "a/15.png/2", "a/2.PNG/1", "a/2.PNG/2", "b.jpg/1", "b.jpg/2",
    ]  # fmt: skip
    assert [line["$source"]["row"] for line in rest] == [2, 3, 3, 4, 4, 5, 5]
    (photos / "a/1.png").unlink()
    assert json.loads(next(found.records(last=last)))["custom_id"] == "a/15.png/1"


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_names_that_are_no_text(photos):
    with open(os.fsencode(photos) + b"/z\xff.png", "wb"):
        pass
    *_, line = source(photos, prompt="p").records()
    found = json.loads(line)
    assert (found["custom_id"], found["$source"]) == (
        "z%FF.png",
        {"row": 5, "path": "z�.png", "raw": "z%FF.png"},
    )
    assert b"/z%FF.png" in line


def test_what_is_wrong_with_a_folder(photos, tmp_path):
    with pytest.raises(InputError, match="nothing says what to ask"):
        source(photos)
    with pytest.raises(InputError, match=r'template asks for "nam"') as caught:
        source(photos, prompt="{nam}")
    assert "name" in str(caught.value.hints[0])
    with pytest.raises(InputError, match=r"holds no file that fits \*\.xyz"):
        list(source(photos, prompt="p", pattern=["*.xyz"]).records())
    with pytest.raises(InputError, match="cannot be read: No such file"):
        source(tmp_path / "none", kind="folder", prompt="p")
    with pytest.raises(InputError, match="is one image"):
        detect(str(photos / "b.jpg"))


def test_topics():
    spec = SourceSpec(
        kind="topics", topics=["AI", "新能源", " "], iterations=2, prompt="About {topic}", system="s"
    )
    found = open_source(spec)
    lines = list(found.records())
    records = [json.loads(line) for line in lines]
    assert found.count() == len(lines) == 6
    assert [record["custom_id"] for record in records] == [
        "AI/1",
        "AI/2",
        "新能源/1",
        "新能源/2",
        " /1",
        " /2",
    ]
    assert records[3]["messages"][1]["content"] == "About 新能源"
    assert records[3]["$source"] == {"row": 1, "topic": "新能源", "iteration": 2}
    assert list(found.records(last=lines[2])) == lines[3:]
    assert found.pin() == {}
    once = open_source(SourceSpec(kind="topics", topics=["x", ""]))
    first, second = (json.loads(line) for line in once.records())
    assert (first["custom_id"], first["messages"][0]["content"]) == ("x/1", "x")
    assert "prompt is empty" in second["$error"]["message"]
    with pytest.raises(InputError, match="no topics"):
        open_source(SourceSpec(kind="topics"))


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.jsonl", b'{"messages": []}\n', "jsonl"),
        ("a.json", b'{"body": {}}\n', "jsonl"),
        ("a.jsonl", b'\n{"id": 1, "input_prompt": "q"}\n', "chat_images"),
        ("a.jsonl", b"no json\n", "jsonl"),
        ("a.data", b' {"messages": []}\n', "jsonl"),
        ("A.CSV", b"a,b\n", "csv"),
        ("a.tab", b"a\tb\n", "tsv"),
        ("a.bin", b"PAR1....", "parquet"),
    ],
)
def test_what_a_file_is(tmp_path, name, data, kind):
    (tmp_path / name).write_bytes(data)
    assert detect(str(tmp_path / name)).kind == kind


def test_what_no_source_is(tmp_path):
    for name, data, words in (
        ("a.json", b'[{"messages": []}]', "JSON array"),
        ("a.dat", b"hello", "does not say what kind"),
        ("a.xlsx", b"PK\x03\x04", "Excel workbook"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=words) as caught:
            detect(str(tmp_path / name))
        assert caught.value.hints
    with pytest.raises(InputError, match="does not exist"):
        detect(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match='"xls" is no kind'):
        detect(str(tmp_path / "a.dat"), SourceSpec(kind="xls"))
    with pytest.raises(InputError, match="only images are read from S3"):
        detect("s3://bucket/a.csv")
    for wrong in ({"start_row": -1}, {"iterations": 0}, {"start_row": 3, "end_row": 3}):
        with pytest.raises(InputError, match="that is nothing"):
            open_source(SourceSpec(kind="topics", topics=["a"], **wrong))


def test_s3_access_comes_from_the_config_the_shell_or_the_profile(tmp_path):
    config = {
        "endpoint": "http://127.0.0.1:9/",
        "access_key_id": "a",
        "secret_access_key": "hidden",
        "region": None,
    }
    env = {
        "AWS_ACCESS_KEY_ID": "b",
        "AWS_SECRET_ACCESS_KEY": "c",
        "AWS_SESSION_TOKEN": "t",
        "AWS_REGION": "r",
    }
    access = s3.access_from(config, env)
    assert access == s3.S3Access(
        endpoint="http://127.0.0.1:9", region="r", access_key_id="a", secret_access_key="hidden"
    )
    assert "hidden" not in f"{access!r} {access}"
    assert s3.access_from({}, env).session_token == "t"
    assert s3.access_from({"anonymous": True}, env).access_key_id is None
    with pytest.raises(InputError, match="belong together"):
        s3.access_from({"access_key_id": "a"}, env)
    with pytest.raises(InputError, match="is no URL"):
        s3.access_from({"endpoint": "minio:9000"}, {})
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text("[default]\naws_access_key_id=x%\naws_secret_access_key=y\n[p]\n")
    (folder / "config").write_text("[default]\nregion=here\n[profile p]\nregion=there\n")
    home = {"HOME": str(tmp_path)}
    found = s3.access_from({}, home)
    assert (found.access_key_id, found.secret_access_key, found.region) == ("x%", "y", "here")
    found = s3.access_from({}, home | {"AWS_PROFILE": "p"})
    assert (found.access_key_id, found.region) == (None, "there")


def test_s3_goes_through_the_shells_proxy_but_not_to_this_machine():
    env = {"https_proxy": "http://proxy:3128", "HTTP_PROXY": "http://other:1", "no_proxy": "near.example"}
    assert s3.access_from({}, env).proxy == "http://proxy:3128"
    assert s3.access_from({"endpoint": "http://localhost:9000"}, env).proxy is None
    assert s3.access_from({"endpoint": "http://far.example"}, env).proxy == "http://other:1"
    assert s3.access_from({"endpoint": "https://{bucket}.near.example"}, env).proxy is None
