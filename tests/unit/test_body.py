from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_kit import make_plan

from batch_inferd.backends.body import BodyBuilder, InvalidLine, Request, custom_id_of
from batch_inferd.backends.rawjson import InvalidJson, split_object

URL = "http://service/v1"


def builder(**changes: Any) -> BodyBuilder:
    return BodyBuilder(make_plan(URL, **changes))


def build(line: bytes, number: int = 5, **changes: Any) -> bytes:
    return builder(**changes).build(line, number).body


def test_defaults_come_first_and_own_fields_win():
    body = json.loads(build(b'{"messages":[],"max_tokens":7,"seed":1}'))
    assert body == {"model": "test-model", "max_tokens": 7, "messages": [], "seed": 1}


def test_values_arrive_byte_for_byte():
    messages = rb'[ {"role":"user", "content":"caf\u00e9 \/ \ud83d \ud83d\ude00 '
    messages += "naïve\u2028".encode() + rb'","n":1.0} ]'
    line = rb'{"messages":' + messages + rb',"big":123456789012345678901234567890,"x":1.50e+2,"z":-0}'
    body = build(line)
    assert b'"messages":' + messages in body
    assert b'"big":123456789012345678901234567890' in body
    assert b'"x":1.50e+2' in body
    assert b'"z":-0' in body


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from(
    ["messages", "custom_id", "model", "max_tokens", "url", "body", "method", "seed", "stop", "tief", "ä"]
)


@given(
    st.dictionaries(_names, _values, max_size=6),
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from(
        [{}, {"omit": ["seed"], "rename": {"stop": "halt"}}, {"messages_key": "tief"}, {"defaults": {}}]
    ),
)
def test_the_quick_way_is_the_same(fields, ascii_only, number, changes):
    line = json.dumps({"messages": [{"role": "user"}], **fields}, ensure_ascii=ascii_only).encode()
    made = builder(**changes)

    def outcome(work):
        try:
            return work()
        except InvalidLine as error:
            return str(error), error.custom_id

    def slowly():
        merged = made.merge(line, number)
        return Request(merged.endpoint, merged.body(), merged.custom_id, merged.own_model)

    assert outcome(lambda: made.build(line, number)) == outcome(slowly)


def test_custom_id_and_the_messages_key_do_not_travel():
    body = json.loads(build(b'{"custom_id":"a","conv":[1],"messages":"other"}', messages_key="conv"))
    assert body == {"model": "test-model", "max_tokens": 16, "messages": [1]}


def test_renamed_and_omitted_from_wherever_they_come():
    changes = {"rename": {"max_tokens": "max_completion_tokens"}, "omit": ["temperature", "enable_thinking"]}
    changes["defaults"] = {"chat": {"max_tokens": 16, "temperature": 1}}
    assert json.loads(build(b'{"messages":[],"enable_thinking":true}', **changes)) == {
        "max_completion_tokens": 16,
        "messages": [],
    }
    assert json.loads(build(b'{"messages":[],"max_tokens":3}', **changes))["max_completion_tokens"] == 3
    assert json.loads(build(b'{"messages":[],"max_completion_tokens":4}', **changes)) == {
        "max_completion_tokens": 4,
        "messages": [],
    }


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/responses", "responses"),
    ],
)
def test_batch_lines_go_to_their_endpoint(url, endpoint):
    line = {"custom_id": "c-1", "method": "POST", "url": url, "body": {"model": "mine", "input": "x"}}
    request = builder().build(json.dumps(line).encode(), 3)
    assert request.endpoint == endpoint
    assert request.custom_id == b'"c-1"'
    assert request.own_model
    expected = {"chat": {"max_tokens": 16}}.get(endpoint, {}) | {"model": "mine", "input": "x"}
    assert json.loads(request.body) == expected


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"messages":[]', "not JSON"),
        (b'{"messages":[]} x', "not JSON"),
        (b'{"messages":[],}', "not JSON"),
        (b'{"messages":["\xff\xfe"]}', "not UTF-8"),
        (b'{"\xff":1}', "not UTF-8"),
        (b'{"messages":["\xed\xa0\x80"]}', "not UTF-8"),
        (b'{"messages":["a\x00b"]}', "not JSON"),
        (b'{"messages":["a\tb"]}', "not JSON"),
        (b'{"messages":[NaN]}', "NaN"),
        (b'{"messages":[Infinity]}', "Infinity"),
        (b'{"messages":' + b"[" * 200_000, "nested too deeply"),
        (b'{"messages":["\\ud800"], "x": 01}', "not JSON"),
        (b'{"messages":["\\ud800"] "x": 1}', "not JSON"),
        (b'{"messages":["\\ud800"]', "not JSON"),
        (b'{"messages":["\\ud800"]} 1', "not JSON"),
        (b"[1]", "object"),
        (b'"text"', "object"),
        (b'["\\ud800"]', "not a JSON object"),
        (b"null", "object"),
        (b"{}", '"messages" is missing'),
        (b'{"messages":null}', "not a list"),
        (b'{"messages":"hi"}', "not a list"),
        (b'{"url":"/v1/chat/completions","body":[]}', "body is not"),
        (b'{"url":"/v1/images","body":{}}', "/v1/chat/completions, /v1/embeddings, /v1/responses"),
        (b'{"body":{}}', "url is missing"),
        (b'{"url":5,"body":{}}', "url is missing"),
        (b'{"url":"/v1/embeddings","method":"GET","body":{}}', "POST"),
        (b'{"url":"/v1/embeddings","method":7,"body":{}}', "POST"),
    ],
)
def test_a_line_that_cannot_be_sent_says_why(line, part):
    with pytest.raises(InvalidLine) as caught:
        build(line)
    assert part in str(caught.value)
    assert caught.value.custom_id == b'"5"'


def test_an_endpoint_that_the_service_has_not():
    with pytest.raises(InvalidLine, match="it has /v1/chat/completions"):
        build(b'{"url":"/v1/embeddings","body":{}}', paths={"chat": "/chat/completions"})


def test_an_invalid_line_keeps_the_custom_id_that_could_be_read():
    with pytest.raises(InvalidLine) as caught:
        build(b'{"custom_id":"mine","x":1}')
    assert caught.value.custom_id == b'"mine"'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'"a"', b'"a"'),
        (rb'"caf\u00e9 \ud83d"', rb'"caf\u00e9 \ud83d"'),
        (b'""', b'""'),
        (b"148", b'"148"'),
        (b"1.0", b'"1.0"'),
        (b"-1e5", b'"-1e5"'),
        (b"null", b'"5"'),
        (b"true", b'"5"'),
        (b"[1]", b'"5"'),
        (None, b'"5"'),
    ],
)
def test_custom_id(value, expected):
    member = b"" if value is None else b'"custom_id":' + value + b","
    line = b"{" + member + b'"messages":[]}'
    assert builder().build(line, 5).custom_id == expected
    assert custom_id_of(line, 5) == expected


def test_the_custom_id_of_what_is_not_json_is_the_line_number():
    assert custom_id_of(b"garbage", 12) == b'"12"'


def test_a_bom_belongs_to_line_one_only():
    line = b'\xef\xbb\xbf{"messages":[]}'
    assert json.loads(build(line, 1))["messages"] == []
    assert custom_id_of(b'\xef\xbb\xbf{"custom_id":"x"}', 1) == b'"x"'
    with pytest.raises(InvalidLine):
        build(line, 2)


def test_own_model_is_one_other_than_the_configs():
    make = builder()
    assert not make.build(b'{"messages":[]}', 1).own_model
    assert not make.build(b'{"messages":[],"model":"test-model"}', 1).own_model
    assert make.build(b'{"messages":[],"model":"other"}', 1).own_model


def test_crlf_and_space_around_a_line_do_not_matter():
    assert json.loads(build(b' \t{"messages" : [ ] }\r'))["messages"] == []


def test_of_a_name_that_comes_twice_the_last_counts():
    assert json.loads(build(b'{"messages":[1],"messages":[2]}'))["messages"] == [2]


def test_names_with_escapes_survive():
    body = build(rb'{"messages":[],"a\"b":1,"\ud800":2,"\u00e9":3}')
    assert json.loads(body) | {} == json.loads(body)
    assert {'a"b', "\ud800", "é"} <= set(json.loads(body))


_names = st.text(max_size=6) | st.sampled_from(["model", "max_tokens", "seed", "stop"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_names, _values, max_size=6), st.lists(_values, max_size=3), st.booleans())
def test_a_body_is_what_the_values_say(fields, messages, ascii_only):
    fields = {name: value for name, value in fields.items() if name not in {"custom_id", "body", "url"}}
    line = json.dumps({**fields, "messages": messages}, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )
    try:
        line.decode()
    except UnicodeDecodeError:
        with pytest.raises(InvalidLine):
            build(line)
        return
    expected = {"model": "test-model", "max_tokens": 16, **fields, "messages": messages}
    assert json.loads(build(line)) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_split_as_json_reads_them_or_refused(data):
    try:
        expected = json.loads(data.decode())
        is_object = isinstance(expected, dict)
    except (ValueError, RecursionError):
        is_object = False
    if is_object:
        parts = split_object(data)
        assert {name: json.loads(bytes(raw)) for name, raw in parts.items()} == expected
    else:
        with pytest.raises(InvalidJson):
            split_object(data)


_json_text = st.text(alphabet='{}[]:,"\\u d8300eE+-.truefalsn\t', max_size=24)


@given(_json_text)
def test_almost_json_is_split_as_json_reads_it_or_refused(text):
    line = b'{"s":"\\ud800","v":' + text.encode() + b"}"  # the lone surrogate takes the slow way
    try:
        expected = json.loads(line)
    except ValueError:
        with pytest.raises(InvalidJson):
            split_object(line)
        return
    assert isinstance(expected, dict)
    assert {name: json.loads(bytes(raw)) for name, raw in split_object(line).items()} == expected


def test_the_fast_way_agrees_with_the_slow_one():
    data = b'{"a": [1, 2.0], "b" :{"c":"x"} , "d":"\xc3\xa9"}'
    slow = data.replace(b'"x"', b'"\\ud800"')
    fast = {name: bytes(raw) for name, raw in split_object(data).items()}
    assert fast == {
        name: bytes(raw).replace(b'"\\ud800"', b'"x"') for name, raw in split_object(slow).items()
    }
    assert fast["a"] == b"[1, 2.0]"
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(slow)  # the reason for having the slow way
