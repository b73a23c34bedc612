"""JSON Schemas of answers: what is refused at once, what is wrong with an answer, and what is left alone."""

import json

import pytest

from batch_infer.protocol.errors import InputError
from batch_inferd.checks.invalid import CUT, EMPTY, SCHEMA, fault
from batch_inferd.config.answer_schema import acceptor, read_schema

pytest.importorskip("jsonschema")


@pytest.fixture
def schema(tmp_path):
    def write(data):
        path = tmp_path / "schema.json"
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        return str(path)

    return write


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON"),
        ({"type": 3}, "is no JSON Schema"),
        ([], "is no JSON Schema"),
        ({"$ref": "#"}, "cannot be applied"),
        ({"$ref": "#/$defs/nothing"}, "cannot be applied"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "cannot be applied"),
        (b'{"title":"' + b"x" * 2**22 + b'"}', "larger than 4 MiB"),
    ],
)
def test_what_is_refused(schema, data, words):
    with pytest.raises(InputError, match=words):
        read_schema(schema(data))


def test_what_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="cannot be read"):
            read_schema(str(path))


def test_a_reference_that_leads_nowhere_stops_the_look(schema):
    """It must not make every answer a bad one."""
    found = read_schema(schema({"properties": {"a": {"$ref": "#/$defs/nothing"}}}))
    accepts = acceptor(found, "s")
    assert accepts("{}") is None
    with pytest.raises(InputError, match="cannot be applied"):
        accepts('{"a": 1}')


def test_own_definitions_and_a_bom(schema):
    made = {"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}
    accepts = acceptor(read_schema(schema(b"\xef\xbb\xbf" + json.dumps(made).encode())), "s")
    assert accepts('```json\n{"a": 1}\n```') is None
    assert accepts('{"a": "x"}') == "$.a: 'x' is not of type 'integer'"
    assert accepts("no") == "no JSON"


def test_what_is_too_deep_is_an_answers_fault(schema):
    accepts = acceptor(read_schema(schema({"type": "array", "items": {"$ref": "#"}})), "s")
    assert accepts("[[[]]]") is None
    assert accepts("[" * 900 + "]" * 900) == "nested too deeply"


def line(content, finish="stop", error=None):
    body = {"choices": [{"finish_reason": finish, "message": {"role": "assistant", "content": content}}]}
    response = {"status_code": 200, "body": body}
    return json.dumps({"custom_id": "a", "response": response, "error": error}).encode()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (line("7"), None),
        (line("x"), SCHEMA),
        (line(" \n"), EMPTY),
        (line("x", "length"), CUT),
        (line("", "length"), CUT),
        (line("7", "length"), CUT),
        (line("", error={"code": "server"}), None),
        (b"no JSON", None),
    ],
)
def test_the_faults(data, what):
    accepts = acceptor({"type": "integer"}, "s")
    assert fault(data, accepts) == what
    assert fault(data, None) == (None if what == SCHEMA else what)
