"""JSON Lines as a source: requests, seed records with images, archives, and outputs for -done."""

from __future__ import annotations

import gzip
import json

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_infer.protocol.errors import InputError
from batch_inferd.sources.bytelines import byte_lines
from batch_inferd.sources.done import done_ids
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.refs import References
from batch_inferd.sources.row import BadRow
from batch_inferd.sources.spec import SourceSpec


def lines(path, start=0, last=None, **wanted):
    spec = detect(str(path), SourceSpec(kind=wanted.pop("kind", ""), **wanted))
    return list(open_source(spec).records(start, last))


def records(path, **wanted):
    return [json.loads(line) for line in lines(path, **wanted)]


def write(path, *objects):
    path.write_bytes(b"".join(o if isinstance(o, bytes) else json.dumps(o).encode() + b"\n" for o in objects))
    return path


def test_requests_stay_as_they_are(tmp_path):
    raw = b'{"custom_id": 7, "messages": [ {"role":"user","content":"\\u4f60 1.0"} ],  "top_p": 1.00'
    raw += b', "$error": 1}\n'
    path = write(tmp_path / "t.jsonl", b"\xef\xbb\xbf", raw, b"  \r\n", {"messages": []}, b"[1]\n", b"\xff\n")
    found = lines(path)
    assert found[0] == (
        b'{"custom_id":"7","$source":{"row":0,"line":1},'
        b'"messages":[ {"role":"user","content":"\\u4f60 1.0"} ],"top_p":1.00}'
    )
    assert found[1] == b'{"custom_id":"3","$source":{"row":1,"line":3},"messages":[]}'
    errors = [json.loads(line)["$error"] for line in found[2:]]
    assert [error["class"] for error in errors] == ["invalid_input"] * 2
    assert errors[0]["message"] == "t.jsonl, line 4: not a JSON object"
    assert "line 5: not UTF-8" in errors[1]["message"]
    assert json.loads(found[3])["custom_id"] == "5"


def test_ranges_and_iterations_of_requests(tmp_path):
    path = write(tmp_path / "t.jsonl", *[{"custom_id": f"c{n}", "messages": []} for n in range(6)])
    wanted = {"start_row": 1, "end_row": 4, "iterations": 2}
    found = lines(path, **wanted)
    assert [json.loads(line)["custom_id"] for line in found] == [
        "c1/1",
        "c1/2",
        "c2/1",
        "c2/2",
        "c3/1",
        "c3/2",
    ]
    for at, line in enumerate(found):
        assert lines(path, start=at, **wanted) == found[at:]
        assert lines(path, last=line, **wanted) == found[at + 1 :]


def test_batch_lines_and_lone_surrogates(tmp_path):
    line = b'{"url": "/v1/chat/completions", "custom_id": "\\ud83d", "body": {"x": "\\ud83d"}}\n'
    (found,) = lines(write(tmp_path / "t.jsonl", line))
    assert b'"body":{"x": "\\ud83d"}' in found
    assert json.loads(found)["custom_id"] == "\ud83d"


def test_seed_records(tmp_path):
    path = write(
        tmp_path / "t.jsonl",
        {"id": "a", "input_prompt": "What?", "images": ["x 1.png", "sub\\y.png", "https://h/z.png?a=1"]},
        {"id": 12, "input_prompt": "No image"},
        {"input_prompt": "", "images": "one.png"},
        {"id": "d", "images": []},
        {"id": "e", "input_prompt": "q", "images": [1]},
        b"broken\n",
    )
    found = records(path, system="Be brief.")
    base = tmp_path.as_uri()
    assert found[0] == {
        "custom_id": "a",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": f"{base}/x%201.png"}},
                    {"type": "image_url", "image_url": {"url": f"{base}/sub/y.png"}},
                    {"type": "image_url", "image_url": {"url": "https://h/z.png?a=1"}},
                ],
            },
        ],
        "$source": {
            "row": 0,
            "line": 1,
            "id": "a",
            "input_prompt": "What?",
            "images": ["x 1.png", "sub\\y.png", "https://h/z.png?a=1"],
        },
    }
    assert found[1]["custom_id"] == "12"
    assert found[1]["$source"]["id"] == 12
    assert found[1]["messages"][1] == {"role": "user", "content": "No image"}
    assert len(found[2]["messages"][1]["content"]) == 1
    assert found[2]["custom_id"] == "3"
    assert '"input_prompt" is missing' in found[3]["$error"]["message"]
    assert "neither a reference nor a list" in found[4]["$error"]["message"]
    assert found[5]["$error"]["message"].startswith("t.jsonl, line 6: not JSON")


def test_prompts_of_any_fields(tmp_path):
    path = write(
        tmp_path / "t.jsonl", {"id": "a", "question": "2+2", "level": 3, "photo": "p.png"}, {"id": "b"}
    )
    found = records(path, prompt="{question} ({level})", image_columns=["photo"], image_folder="/data")
    assert found[0]["messages"][0]["content"][0]["text"] == "2+2 (3)"
    assert found[0]["messages"][0]["content"][1]["image_url"]["url"] == "file:///data/p.png"
    assert found[0]["$source"]["input_prompt"] == "2+2 (3)"
    assert '"question" is missing' in found[1]["$error"]["message"]


def test_seed_records_in_gb18030(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(json.dumps({"id": "甲", "input_prompt": "你好"}, ensure_ascii=False).encode("gb18030"))
    (found,) = records(path, kind="chat_images", encoding="gb18030")
    assert (found["custom_id"], found["messages"][0]["content"]) == ("甲", "你好")


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_archives(tmp_path, compression):
    data = b"".join(b'{"messages":[],"n":%d}\n' % n for n in range(30_000))
    pack = gzip.compress if compression == "gz" else zstandard.compress
    packed = pack(data[:400_001]) + pack(data[400_001:])  # two frames, as cat makes them
    path = tmp_path / f"t.jsonl.{compression}"
    path.write_bytes(packed)
    assert len(lines(path)) == 30_000
    path.rename(tmp_path / "t.jsonl")  # the content counts, not the name
    assert detect(str(tmp_path / "t.jsonl")).compression == compression
    assert json.loads(lines(tmp_path / "t.jsonl", start=29_999)[0])["n"] == 29_999
    path.write_bytes(packed[:-9])
    with pytest.raises(InputError, match="cut short"):
        lines(path)
    path.write_bytes(packed[:5000] + bytes(200) + packed[5200:])
    with pytest.raises(InputError, match=r"damaged|cut short"):
        lines(path)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60).map(lambda b: b.replace(b"\0", b"\n")), size=st.integers(1, 9))
def test_byte_lines_do_not_depend_on_blocks(data, size):
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    whole = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    assert list(byte_lines(blocks)) == [(number, line) for number, line in whole if line.strip()]


def test_long_lines_are_cut(tmp_path):
    blocks = [b"a\n" + b"x" * 20, b"x" * 20, b"x\nb"]
    assert list(byte_lines(iter(blocks), 10)) == [(1, b"a"), (2, b"x" * 11), (3, b"b")]


def test_references(tmp_path):
    local = References(str(tmp_path))
    assert local.resolve("s3://b/a b%.png") == "s3://b/a%20b%25.png"
    assert local.resolve("/abs/ü.png") == "file:///abs/%C3%BC.png"
    assert local.resolve("data:image/png;base64,AA==") == "data:image/png;base64,AA=="
    assert local.all_of("c", '["a.png", "b.png"]') == [f"{tmp_path.as_uri()}/{name}.png" for name in "ab"]
    assert local.all_of("c", " [odd.png ") == [f"{tmp_path.as_uri()}/%5Bodd.png"]
    (tmp_path / "a\\b.png").touch()
    assert local.resolve("a\\b.png").endswith("/a%5Cb.png")
    assert References("s3://b/p").resolve("x/1.png") == "s3://b/p/x/1.png"
    with pytest.raises(BadRow, match=r"set input\.image_folder"):
        References("").resolve("a.png")
    for bad in ("s3://b", "s3:///k", "file://relative", "a\0b"):
        with pytest.raises(BadRow):
            local.resolve(bad)


def answer(custom_id, status=200, error=None):
    return {"custom_id": custom_id, "response": {"status_code": status, "body": {}}, "error": error}


def test_done_ids(tmp_path):
    path = write(
        tmp_path / "out.jsonl",
        answer("a"), answer("b", 500), answer("c", error={"code": "x"}), answer(4),
        {"custom_id": "d", "response": None, "error": None},
        {"id": "e", "answer": "yes"}, {"id": 6, "answer": "six"}, {"id": "f", "answer": ""}, {"x": 1},
    )  # fmt: skip
    assert done_ids(str(path)) == ({"a", "4", "e", "6"}, [])
    assert not list(tmp_path.glob("*.bak*"))


def test_a_damaged_output_is_backed_up_and_its_good_lines_count(tmp_path):
    path = write(
        tmp_path / "out.jsonl", answer("a"), b"\0\0\0\n", b"[1]\n", answer("b"), b'{"custom_id": "c", "resp'
    )
    for copies in (1, 2):
        ids, (warning,) = done_ids(str(path))
        assert ids == {"a", "b"}
        backups = [other for other in tmp_path.iterdir() if other.name.startswith("out.jsonl.bak-")]
        assert len(backups) == copies
        assert all(other.read_bytes() == path.read_bytes() for other in backups)
        assert "3 lines cannot be read (line 2, 3, 5)" in str(warning)
        assert any(other.name in str(warning) for other in backups)
    with pytest.raises(InputError, match="does not exist"):
        done_ids(str(tmp_path / "no.jsonl"))
