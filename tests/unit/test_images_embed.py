"""References in bodies: only where an image stands, everything else byte for byte."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.images import embed as module
from batch_inferd.images.embed import embed, has_references, measure, references
from batch_inferd.images.load import ImageError, Loaded
from batch_inferd.images.plan import ImagePlan
from image_kit import line, picture, put

PLAN = ImagePlan()


def data_url(data: bytes, kind: str = "jpeg") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def refs(body: bytes, **options: bool) -> list[str]:
    return [one.ref for one in references(body, **options)]


def test_an_image_becomes_base64_and_nothing_else_changes(tmp_path):
    first, second = picture(seed=1), picture(kind="png", seed=2)
    one, two = put(tmp_path / "ä 1.jpg", first), put(tmp_path / "2.png", second)
    escaped = one.replace("/", "\\/")
    body = (
        '{"model": "m",\n "messages": [ {"role":"user","content":[{"type":"text","text":"%s é \\u00e9 1.50"},'
        ' {"image_url" : {"detail":"low","url" :\t"%s"},"type":"image_url"},'
        '{"type":"image_url","image_url":{"url":"%s"}} ]} ], "x": 1.50}'
    )
    made = embed((body % (one, escaped, two)).encode(), PLAN)
    assert made == (body % (one, data_url(first), data_url(second, "png"))).encode()
    assert refs((body % (one, escaped, two)).encode()) == [one, two]


def test_responses_have_it_directly(tmp_path):
    data = picture()
    ref = put(tmp_path / "a.jpg", data)
    body = {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": ref}]}]}
    made = json.loads(embed(json.dumps(body).encode(), PLAN))
    assert made["input"][0]["content"][0]["image_url"] == data_url(data)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "file:///a.png"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "file:///a.png"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "x", "url": "file:///a.png"}]}]},
        {"messages": [{"image_url": {"url": "file:///a.png"}}]},
        {"messages": {"content": [{"image_url": {"url": "file:///a.png"}}]}},
        {"image_url": {"url": "file:///a.png"}},
        {"messages": [{"content": [{"image_url": {"deep": {"url": "file:///a.png"}}}]}]},
        {"messages": [{"content": [{"image_url": {"url": ["file:///a.png"]}}]}]},
        {"messages": [{"content": [{"image_url": {"file:///a.png": 1, "url": "x"}}]}]},
        {"messages": [{"content": [{"image_url": {"url": '{"url":"file:///a.png"}'}}]}]},
        {"messages": [{"content": [{"image_url": {"url": "data:image/png;base64,AA=="}}]}]},
        {"file:///a.png": [{"content": [{"image_url": {"url": "https://host/a.png"}}]}]},
        [],
    ],
)
def test_what_only_looks_like_one(body):
    text = json.dumps(body).encode()
    assert embed(text, PLAN) is text
    assert measure(text, PLAN) == 0


def test_web_addresses_are_references_where_they_are_fetched():
    body = line("https://host/a.png")
    assert (refs(body), refs(body, fetch_urls=True)) == ([], ["https://host/a.png"])
    assert not has_references(body)
    assert has_references(body, fetch_urls=True)
    assert refs(line("s3://b/k")) == ["s3://b/k"]


def test_the_measure_is_at_least_what_comes(tmp_path):
    for kind in ("jpeg", "png"):
        body = line(put(tmp_path / "a", picture(kind=kind)))
        more = len(embed(body, PLAN)) - len(body)
        assert more <= measure(body, PLAN) <= more + 8


def test_a_limit_of_the_whole(tmp_path):
    body = line(put(tmp_path / "a.jpg", picture()))
    size = len(embed(body, PLAN))
    assert len(embed(body, PLAN, size)) == size
    with pytest.raises(ImageError, match=f"more than {size - 1} bytes with its images") as caught:
        embed(body, PLAN, size - 1)
    assert caught.value.cls == "image_too_large"


def test_a_reference_that_is_no_text():
    body = b'{"messages":[{"content":[{"image_url":{"url":"file:///\\x"}}]}]}'
    with pytest.raises(ImageError) as caught:
        references(body)
    assert caught.value.cls == "image_invalid"


def test_one_image_at_a_time(tmp_path, monkeypatch):
    held = []

    def load(ref: str, _: Any) -> Loaded:
        held.append(ref)
        return Loaded(b"x" * 3_000_000, "image/png", 1, 1)

    monkeypatch.setattr(module, "load", load)
    parts = [{"type": "image_url", "image_url": {"url": f"file:///{n}"}} for n in range(9)]
    body = json.dumps({"messages": [{"content": parts}]}).encode()
    with pytest.raises(ImageError):
        embed(body, PLAN, 10_000_000)
    assert held == ["file:///0", "file:///1", "file:///2"]


_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=6) | st.sampled_from(["file:///a", "s3://b/k", '"', "\\"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["content", "image_url", "url", "a", '"']), inner, max_size=3)
    ),
    max_leaves=12,
)


def replaced(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """What `embed` shall do, on the parsed value."""
    if isinstance(value, dict):
        return {name: replaced(inner, (*path, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, (*path, None)) for inner in value]
    places = {(None, "content", None, "image_url"), (None, "content", None, "image_url", "url")}
    if path[1:] in places and isinstance(value, str) and value.startswith(("file:", "s3:")):
        return "data:image/png;base64,eA=="
    return value


_content = st.lists(
    st.fixed_dictionaries({"image_url": st.dictionaries(st.sampled_from(["url", "x"]), _values) | _values})
    | _values,
    max_size=3,
)
_bodies = st.dictionaries(
    st.sampled_from(["messages", "input", "x"]),
    st.lists(st.fixed_dictionaries({"content": _content}) | _values, max_size=3) | _values,
)


@given(_bodies, st.booleans())
def test_any_body(body, ascii_only):
    text = json.dumps(body, ensure_ascii=ascii_only, separators=(", ", " : ")).encode(
        "utf-8", "surrogatepass"
    )
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load", lambda *_: Loaded(b"x", "image/png", 1, 1))
        made = embed(text, PLAN)
    assert json.loads(made) == replaced(body)


@given(
    st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b'"file:', b'"url"', b"\n"]))
)
def test_what_is_no_json_does_not_hang_or_break(pieces):
    for one in references(b"".join(pieces)):
        assert one.end > one.begin
