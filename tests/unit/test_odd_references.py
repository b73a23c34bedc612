"""Whatever stands where an image is named ends its record at most: never the source, never the task."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_inferd.images import load as loading
from batch_inferd.images.embed import embed, measure
from batch_inferd.images.errors import ImageError
from batch_inferd.images.load import load, size_of
from batch_inferd.images.plan import ImagePlan
from batch_inferd.images.refs import in_utf8, path_of, shown
from batch_inferd.sources import s3, s3http, stream, table
from batch_inferd.sources.jsonl import JsonlReader
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.refs import References
from batch_inferd.sources.row import BadRow, dumps
from batch_inferd.sources.spec import SourceSpec

LONE = "\ud800"
HALF = "\udc80"  # what Python makes of a byte of a name that is no UTF-8
ENDPOINTS = ("http://127.0.0.1:1", "http://{bucket}.localhost:1", "http://oss.aliyuncs.com", None)
PIECES = st.sampled_from(
    ["file://", "s3://", "http://", "data:image/png;base64,", "/", "\\", "..", "[", "]", "::1", "?", "#", "@",
     ":", "%", "%00", "%80", LONE, HALF, "é", "图", "\0", "\n", " ", ".", "a", "B", "-", "x.png", "b" * 300]
)  # fmt: skip
ODD = st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(st.characters(), max_size=30))


@pytest.fixture
def _nobody_is_asked(monkeypatch):
    def unreachable(*_args, **_more):
        raise s3.S3Unreachable("not in this test")

    monkeypatch.setattr(s3http, "_client", unreachable)
    monkeypatch.setattr(s3, "FIRST_WAIT_S", 0.0)


def records(path, **wanted):
    """Each record, and whether it is an error."""
    lines = [
        json.loads(line) for line in open_source(detect(str(path), SourceSpec(kind="", **wanted))).records()
    ]
    return [line.get("$error", {}).get("class") for line in lines]


@settings(max_examples=300, deadline=None)
@given(text=ODD, folder=st.sampled_from(["/photos", "", "s3://bucket/p", "s3://bad bucket/p"]))
@example(text=f"{LONE}.png", folder="/photos")
@example(text=f"s3://b/{LONE}", folder="")
@example(text=f"{LONE}.png", folder="s3://bucket")
@example(text="file://[::1/x.png", folder="/photos")
@example(text="x" * 300 + "\\y.png", folder="/photos")
@example(text=f"file:///{LONE}.png", folder="")
@example(text="s3://[/x.png", folder="")
def test_a_reference_is_resolved_or_a_bad_row(text, folder):
    try:
        found = References(folder).resolve(text)
    except BadRow as bad:
        assert str(bad).encode()  # noqa: PT017  it is for people
        return
    if found.startswith("file://"):
        size_or_error(found)


def size_or_error(ref):
    try:
        size_of(ref, ImagePlan())
    except ImageError as error:
        assert str(error).encode()  # noqa: PT017  the message goes into files


@settings(max_examples=300, deadline=None)
@given(ref=ODD, endpoint=st.sampled_from(ENDPOINTS))
@example(ref=f"file:///{LONE}.png", endpoint=None)
@example(ref="s3://é/x.png", endpoint="http://{bucket}.localhost:1")
@example(ref="s3://[/x.png", endpoint="http://oss.aliyuncs.com")
@example(ref=f"s3://{'b' * 300}/x.png", endpoint="http://{bucket}.localhost:1")
@example(ref="s3://a..b/x.png", endpoint="http://{bucket}.localhost:1")
@example(ref="s3://bucket/x.png", endpoint="http://127.0.0.1:1/x[")
@example(ref=f"s3://bucket/{LONE}", endpoint="http://127.0.0.1:1")
@pytest.mark.usefixtures("_nobody_is_asked")
def test_an_image_is_loaded_or_an_image_error(ref, endpoint):
    plan = ImagePlan(s3=s3.S3Access(endpoint=endpoint, access_key_id="k", secret_access_key="s"))
    body = dumps({"messages": [{"content": [{"image_url": {"url": ref}}]}]})
    shown(ref).encode()
    for work in (
        lambda: load(ref, plan),
        lambda: size_of(ref, plan),
        lambda: embed(body, plan),
        lambda: measure(body, plan),
    ):
        try:
            work()
        except ImageError as error:
            assert str(error).encode()  # noqa: PT017  as above


def test_a_name_that_is_no_utf8_stays_a_name(tmp_path):
    ref = References(str(tmp_path)).resolve(f"{HALF}.png")
    assert ref == f"{tmp_path.as_uri()}/%80.png"
    assert path_of(f"file:///{HALF}.png") == f"/{HALF}.png"


@settings(max_examples=300, deadline=None)
@given(ref=ODD.map("file:///{}".format))
@example(ref=f"file:///%{HALF}41%4{HALF}.png")
@example(ref="file:///\udcc3\udca9图.png")
def test_a_reference_in_utf8_means_the_same_file(ref):
    try:
        path = path_of(ref)
    except ImageError:
        return
    written = in_utf8(ref)
    assert written.encode().decode() == written
    assert path_of(written) == path


@pytest.mark.parametrize("ref", [f"file:///{LONE}.png", f"s3://b/{HALF}.png", f"https://h/#{HALF}"])
def test_half_of_a_character_is_an_image_error(ref):
    with pytest.raises(ImageError, match="half of a character"):
        in_utf8(ref)


def test_odd_references_in_lines_are_error_records(tmp_path):
    path = tmp_path / "s.jsonl"
    rows = [
        {"id": n, "input_prompt": "p", "images": [ref]}
        for n, ref in enumerate(["a.png", f"{LONE}.png", "b.png"])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert records(path) == [None, "invalid_input", None]


def test_odd_references_in_cells_are_error_records(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        'id,img\n1,a.png\n2,file://[::1/x.png\n3,"[""\\ud800.png""]"\n4,'
        + "x" * 300
        + "\\y.png\n5,s3://[/x\n6,b.png\n"
    )
    classes = records(path, prompt="What?", image_columns=["img"])
    assert classes == [None, "invalid_input", "invalid_input", None, "invalid_input", None]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "chat_images"])
def test_whatever_a_row_raises_ends_it_alone(tmp_path, monkeypatch, caplog, kind):
    path = tmp_path / f"t.{kind.partition('_')[0]}"
    own = {
        "csv": "x\nbad\n",
        "jsonl": '{"messages": []}\n{"bad": 1}\n',
        "chat_images": '{"input_prompt": "x"}\n{"input_prompt": "bad"}\n',
    }
    path.write_text(("id\n" if kind == "csv" else "") + own[kind])
    real = table.Table._custom_id if kind == "csv" else None

    def explode(self, texts, fallback):
        if texts["id"] == "bad":
            raise ZeroDivisionError("nobody thought of it")
        return real(self, texts, fallback)

    def odd(self, index, number, line):
        if b"bad" in line:
            raise ZeroDivisionError("nobody thought of it")
        return plain(self, index, number, line)

    plain = JsonlReader._row
    monkeypatch.setattr(table.Table, "_custom_id", explode)
    monkeypatch.setattr(JsonlReader, "_row", odd)
    if kind == "chat_images":
        monkeypatch.setattr("batch_inferd.sources.jsonl.ChatImagesReader._row", odd)
    assert records(path) == [None, "invalid_input"]
    assert "nobody thought of it" in caplog.text


def test_a_row_that_cannot_be_written_is_an_error_record(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("id,q\n1,x\n2,bad\n")
    real = stream.canonical

    def canonical(row, key, iteration):
        if row.messages and row.messages[0]["content"] == "bad":
            raise RecursionError("too deep")
        return real(row, key, iteration)

    monkeypatch.setattr(stream, "canonical", canonical)
    assert records(path, prompt="{q}", id_column="id") == [None, "invalid_input"]


def test_whatever_an_image_raises_ends_its_record(monkeypatch, caplog):
    def explode(_):
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr(loading, "path_of", explode)
    for work in (load, size_of, loading.read):
        with pytest.raises(ImageError, match="cannot be read") as caught:
            work("file:///x.png", ImagePlan())
        assert caught.value.cls == "image_invalid"
    assert "nobody thought of it" in caplog.text


@pytest.mark.parametrize("serious", [OSError("disk"), MemoryError()])
def test_trouble_of_the_machine_is_not_the_records(monkeypatch, serious):
    def explode(_):
        raise serious

    monkeypatch.setattr(loading, "path_of", explode)
    with pytest.raises(type(serious)):
        load("file:///x.png", ImagePlan())
