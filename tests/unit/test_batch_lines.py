"""The lines of packed files and of result files: what goes in comes out, and every dialect is read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.backends.batch.lines import decode_line, encode_line
from batch_inferd.backends.batch.openai import OpenAIBatches
from batch_inferd.backends.batch.provider import ResultLine
from batch_inferd.backends.plan import RequestPlan, Retry, Timeouts
from batch_inferd.seams.clock import SystemClock

URL = "/v1/chat/completions"
BODY = b'{"choices":[{"message":{"content":"4"}}],"n":1.50}'

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=5)


def result(**fields: object) -> bytes:
    return json.dumps({"id": "batch_req_1", "custom_id": "r7", **fields}).encode()


def test_a_line_is_what_the_services_document() -> None:
    line = encode_line(b"r12", URL, b'{"model":"m","n":1.50}')
    assert (
        line
        == b'{"custom_id":"r12","method":"POST","url":"/v1/chat/completions","body":{"model":"m","n":1.50}}\n'
    )
    assert encode_line(b"r12", URL, b"{}", bare=True) == b'{"custom_id":"r12","body":{}}\n'


def test_a_line_stays_one_line_for_every_reader() -> None:
    body = '{"a":\r\n"x\u2028y\u2029z\x85"}'.encode()
    line = encode_line(b"r1", URL, body)
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line)["body"] == {"a": "x\u2028y\u2029z\x85"}


@settings(deadline=None)
@given(
    body=objects, number=st.integers(1, 10**12), url=st.text(max_size=30).filter(lambda u: u.isprintable())
)
def test_encoded_lines_say_what_was_put_in(body: dict[str, object], number: int, url: str) -> None:
    raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if b"\xed" in raw:
        return  # half a pair: never raw, as the input was UTF-8
    line = encode_line(b"r%d" % number, url, raw)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"custom_id": f"r{number}", "method": "POST", "url": url, "body": body}


@settings(deadline=None)
@given(body=objects, status=st.sampled_from([200, 400, 429, 500]), key=st.text(min_size=1, max_size=20))
def test_result_lines_round_trip(body: dict[str, object], status: int, key: str) -> None:
    response = {"status_code": status, "request_id": "req_1", "body": body}
    for end in (b"", b"\r"):
        line = json.dumps({"custom_id": key, "response": response, "error": None}).encode() + end
        read = decode_line(line)
        assert (read.key, read.status, read.request_id, read.code, read.message) == (
            key,
            status,
            "req_1",
            "",
            "",
        )
        assert read.body is not None
        assert json.loads(read.body) == body


@settings(deadline=None)
@given(line=st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()))
def test_reading_raises_nothing_but_value_error(line: bytes) -> None:
    try:
        read = decode_line(line)
    except ValueError:
        return
    assert isinstance(read, ResultLine)


@settings(deadline=None)
@given(response=json_values, error=json_values, key=json_values)
def test_odd_members_are_read_as_far_as_they_go(response: object, error: object, key: object) -> None:
    read = decode_line(json.dumps({"custom_id": key, "response": response, "error": error}).encode())
    assert read.key is None or isinstance(key, str | int)
    assert read.status is None or 100 <= read.status <= 599
    if read.body is not None:
        json.loads(read.body)


@settings(deadline=None)
@given(cut=st.integers(0, 200))
def test_a_cut_line_is_unreadable(cut: int) -> None:
    line = result(response={"status_code": 200, "body": {"choices": []}})
    if cut < len(line):
        with pytest.raises(ValueError):  # noqa: PT011  any
            decode_line(line[:cut])


def test_the_body_stays_as_it_came() -> None:
    line = b'{"custom_id":"r7","response":{"status_code":200,"body": %b },"error":null}' % BODY
    assert decode_line(line).body == BODY


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response": {"status_code": 200, "body": {}}}, ResultLine("r7", 200, None, b"{}")),
        ({"response": {"status_code": "200", "body": {}}}, ResultLine("r7", 200, None, b"{}")),
        ({"response": {"status_code": 200, "body": "{}"}}, ResultLine("r7", 200, None, b"{}")),
        ({"response": {"body": {}}}, ResultLine("r7", 200, None, b"{}")),
        ({"response": {"status_code": 0, "body": {}}}, ResultLine("r7", 200, None, b"{}")),
        ({"response": {"choices": [1]}}, ResultLine("r7", 200, None, b'{"choices":[1]}')),
        ({"response": {"status_code": 200, "body": None}}, ResultLine("r7", 200)),
        ({"response": {"status_code": 500, "body": "oops"}}, ResultLine("r7", 500, None, b'"oops"')),
        ({"response": {"status_code": 400, "body": {}}, "error": {}}, ResultLine("r7", 400, None, b"{}")),
        ({"response": None, "error": None}, ResultLine("r7")),
        ({}, ResultLine("r7")),
        (
            {"response": None, "error": {"code": "batch_expired", "message": "late"}},
            ResultLine("r7", code="batch_expired", message="late"),
        ),
        (
            {"error": {"type": "server_error", "message": "x"}},
            ResultLine("r7", code="server_error", message="x"),
        ),
        ({"error": "too bad"}, ResultLine("r7", message="too bad")),
        ({"error": {"code": 429, "message": "slow"}}, ResultLine("r7", 429, code="429", message="slow")),
        ({"error": {"reason": "?"}}, ResultLine("r7", message='{"reason": "?"}')),
        (
            {"response": {"status_code": 400, "body": {"error": {"message": "no"}}}, "error": {"code": "x"}},
            ResultLine("r7", 400, None, b'{"error": {"message": "no"}}', "x"),
        ),
    ],
)
def test_dialects(fields: dict[str, object], expected: ResultLine) -> None:
    line = result(**fields)
    assert decode_line(line) == expected
    assert decode_line(line + b"\r") == expected
    assert decode_line(b"\xef\xbb\xbf" + line) == expected


@pytest.mark.parametrize(
    "line", [b"", b"\r", b"   ", b"[]", b'"x"', b"null", b"\xff{}", b'{"custom_id":"r1"', b"<html>"]
)
def test_unreadable_lines(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  any
        decode_line(line)


def test_what_breaks_parsers_breaks_nothing() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(ValueError):  # noqa: PT011  any
        decode_line(b'{"custom_id":"r1","response":{"status_code":200,"body":%b}}' % deep)
    huge = b'{"custom_id":"r1","response":{"status_code":%b,"body":{}}}' % (b"9" * 10_000)
    assert decode_line(huge).status == 200
    half = b'{"custom_id":"r1","response":{"status_code":200,"body":"{\\"a\\":\\"\\ud800\\"}"}}'
    body = decode_line(half).body
    assert body is not None
    assert json.loads(body)


def test_ids_have_the_least_length_that_a_service_wants() -> None:
    plan = RequestPlan(
        "u", 1, "a", "http://127.0.0.1:9/v1", {}, {}, {"Authorization": "Bearer sk-very-secret"}, None, {},
        "messages", [], {}, "b", [], [], Timeouts(), Retry(), 1, 1, "normal",
    )  # fmt: skip
    provider = OpenAIBatches(plan, BatchApi(min_id=6), SystemClock())
    for key in (b"r1", b"r12345", b"r123456789", b"r100", b"r10"):
        line = provider.encode_line(key, URL, b"{}")
        sent = json.loads(line)["custom_id"]
        assert len(sent) >= 6
        assert provider.decode_line(line).key == key.decode()
    told = provider.decode_line(b'{"custom_id":"r00001","error":"key sk-very-secret is bad"}')
    assert (told.key, told.message) == ("r1", "key *** is bad")
