"""A file of which nothing is known: its lines, its ids, what the answers look like."""

import json
import os

import pytest

from batch_inferd.backends.rawjson import InvalidJson
from batch_inferd.checks.answers import ERROR, OTHER, judge
from batch_inferd.checks.content import Stopped, Tick, answers_that_fail, damage, read_content
from batch_inferd.checks.textfile import text_lines
from batch_inferd.config.answer_schema import acceptor, bare, read_schema


def chat(key="a", content="yes", finish="stop", **message):
    choices = [{"finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}]
    body = {"choices": choices}
    return {"id": "batch_1", "custom_id": key, "response": {"status_code": 200, "body": body}, "error": None}


def dumps(*lines):
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture
def read(tmp_path):
    def look(data, accepts=None):
        (tmp_path / "f").write_bytes(data)
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        try:
            return read_content(fd, Tick(), accepts)
        finally:
            os.close(fd)

    return look


def whats(findings):
    return {finding.what: finding for finding in findings}


def test_a_file_and_an_answer_that_was_cut(read):
    data = dumps(chat("a"), chat("b", finish="length"), {"custom_id": "c", "error": {"code": "x"}})
    content = read(data)
    assert (content.lines, content.answers, content.errors, content.bytes) == (3, 2, 1, len(data))
    assert content.finish == {"stop": 1, "length": 1}
    assert damage(content) == []
    assert [(f.what, f.lines) for f in answers_that_fail(content)] == [("cut", (2,))]


def test_an_empty_file(read):
    assert damage(read(b"")) == []


def test_the_same_line_and_the_same_id(read):
    other = chat("a", "no")
    found = whats(damage(read(dumps(chat("a"), chat("b"), chat("a"), other))))
    assert set(found) == {"duplicated", "duplicated_ids"}
    assert (found["duplicated"].lines, found["duplicated"].of) == ((3,), (1,))
    assert (found["duplicated_ids"].lines, found["duplicated_ids"].of) == ((4,), (1,))
    assert "line 3 is line 1 once more" in str(found["duplicated"].text)


@pytest.mark.parametrize("bad", [b"{", b"[]", b"nul", b"1", b'{"a": "\xff"}', b'{"a": NaN}', b"[" * 100_000])
def test_lines_that_are_no_json_objects(read, bad):
    found = whats(damage(read(dumps(chat("a")) + bad + b"\n" + dumps(chat("b")))))
    assert set(found) == {"not_json"}
    assert found["not_json"].lines == (2,)
    with pytest.raises(InvalidJson):
        judge(bad)


def test_a_cut_last_line(read):
    found = whats(damage(read(dumps(chat("a"), chat("b"))[:-20])))
    assert set(found) == {"truncated"}
    assert "middle of line 2" in str(found["truncated"].text)
    assert damage(read(dumps(chat("a"))[:-1])) == []  # only a newline is missing: nothing is lost


def test_blank_lines_and_lines_without_ids(read):
    content = read(b"\n \n" + dumps({"answer": "x"}))
    assert (content.blank.count, content.lines) == (2, 3)
    assert whats(damage(content))["without_id"].lines == (3,)


@pytest.mark.parametrize(
    ("line", "empty"),
    [
        (chat(content=""), True),
        (chat(content=" \n"), True),
        (chat(content=None), True),
        (chat(content="", reasoning_content="hm"), True),
        (chat(content=None, tool_calls=[{"id": 1}]), False),
        (chat(content=None, refusal="no"), False),
        (chat(content=None, function_call={"name": "f"}), False),
        (chat(content="half an emoji \ud83d"), False),
        ({"id": 1, "answer": ""}, True),
        ({"id": 1, "answer": "x"}, False),
    ],
)
def test_empty_answers_of_chats(line, empty):
    assert judge(dumps(line)[:-1]).empty == empty


@pytest.mark.parametrize(
    ("body", "empty", "finish"),
    [
        ({"data": []}, True, ""),
        ({"data": [{"embedding": [0.1]}]}, False, ""),
        ({"choices": []}, True, ""),
        ({"content": [{"type": "text", "text": "x"}], "stop_reason": "max_tokens"}, False, "max_tokens"),
        ({"content": [{"type": "tool_use"}], "stop_reason": "tool_use"}, False, "tool_use"),
        ({"content": [{"type": "thinking", "thinking": "hm"}], "stop_reason": "end_turn"}, True, "end_turn"),
        ({"output": [{"type": "reasoning"}], "status": "completed"}, True, "completed"),
        ({"output": [{"type": "function_call"}], "status": "completed"}, False, "completed"),
        ({"output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}]}, False, ""),
        ({}, True, ""),
        (None, True, ""),
        ({"anything": 1}, False, ""),
    ],
)
def test_empty_answers_of_other_endpoints(body, empty, finish):
    line = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
    judged = judge(dumps(line)[:-1])
    assert (judged.empty, judged.finish) == (empty, finish)


def test_what_is_no_answer():
    assert judge(b'{"custom_id":"a","response":{"status_code":500,"body":{}},"error":null}').kind == ERROR
    assert judge(b'{"custom_id":"a","messages":[]}').kind == OTHER


def test_empty_answers_are_told(read):
    found = whats(answers_that_fail(read(dumps(chat("a", ""), chat("b"), chat("c", "")))))
    assert str(found["empty"].text) == "2 answers are empty: lines 1, 3"


def test_a_line_that_is_far_too_long_is_never_held(tmp_path):
    (tmp_path / "f").write_bytes(b"short\n" + b"x" * 5_000_000 + b"\nshort\n")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    seen = []
    lines = list(text_lines(fd, lambda data: seen.append(len(data)), most=1000))
    os.close(fd)
    assert [line.data for line in lines] == [b"short", None, b"short"]
    assert lines[0].digest == lines[2].digest
    assert sum(seen) == 5_000_013
    assert max(seen) <= 1024 * 1024


def test_the_digest_of_a_long_line_is_that_of_all_its_bytes(tmp_path):
    digests = set()
    for most in (4, 10_000):
        (tmp_path / "f").write_bytes(b"abcdefgh\n")
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        digests |= {line.digest for line in text_lines(fd, len, most=most)}
        os.close(fd)
    assert len(digests) == 1


def test_it_stops_when_it_is_told(tmp_path):
    (tmp_path / "f").write_bytes(dumps(chat()))
    tick = Tick()
    tick.stop.set()
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    with pytest.raises(Stopped):
        read_content(fd, tick)
    os.close(fd)


def test_a_schema_judges_answers(tmp_path, read):
    pytest.importorskip("jsonschema")
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "required": ["label"]}')
    accepts = acceptor(read_schema(str(schema)), str(schema))
    good = '```json\n{"label": 1}\n```'
    content = read(
        dumps(chat("a", good), chat("b", '{"x": 1}'), chat("c", "no JSON"), chat("d", "")), accepts
    )
    found = whats(answers_that_fail(content))
    assert found["schema"].lines == (2, 3)
    assert "'label' is a required property" in str(found["schema"].text)
    assert found["empty"].lines == (4,)


def test_fences_are_taken_off():
    assert json.loads(bare("```json\n[1]\n```")) == [1]
    assert bare(" [1] ") == "[1]"
    assert bare("``````") == "``````"
