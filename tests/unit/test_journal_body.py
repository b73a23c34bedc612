"""Bodies that may travel raw: exactly those that Python's json reads from one line of our outputs."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_inferd.journal.body import MAX_DEPTH, check_body, one_line

GOOD = [
    b"{}",
    b" [1 , 2]\r\n",
    b'{\r\n  "a": 1,\n\t"b": [true, null]\n}\n',
    '{"a":"\u2028\u2029\u0085😀"}'.encode(),
    b'"\\ud83d\\ude00"',
    b'"\\ud83d"',  # half an emoji, escaped: valid JSON, though msgspec refuses it
    b'{"a":"\\ud800x","b":[{"c":1}]}',
    b'"\x7f\\u0000"',
    b"1e999",
    b"1" * 4300,
    b"0." + b"1" * 9000,
    b'"' + b"7" * 9000 + b'"',
    b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
    b"[" + b'{"a":[1]},' * 1000 + b"{}]",  # many brackets, but not deep
    b'["' + b"[" * 1000 + b'","\\"' + b"{" * 1000 + b'\\\\"]',
]
BAD = [
    b"",
    b" ",
    b"\xef\xbb\xbf{}",
    b"{} {}",
    b'{"a":1,}',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',  # a surrogate as UTF-8
    b'"\xc0\x80"',
    b'"a\nb"',
    b'"a\rb"',
    b'"a\x00b"',
    b'"a\tb"',
    b"\x00{}",
    b"{}\x00",
    b"NaN",
    b'{"a":-Infinity,"b":"\\ud800"}',
    b'{"a":"\\ud800"',
    b"<html>",
    b"1" * 4301,
    b"-" + b"1" * 4301,
    b"[1,\n" + b"1" * 20000 + b"]",
    b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    b'{"a":' * 100000 + b"1" + b"}" * 100000,
    b"[" * 100000,
    b'["\\\\",' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]",  # a string that ends with a backslash
]


@pytest.mark.parametrize("body", GOOD, ids=range(len(GOOD)))
def test_good(body):
    assert check_body(body) is None
    line = b'{"response":{"body":%b}}' % one_line(body)
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line)["response"]["body"] == json.loads(body)


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_bad(body):
    assert isinstance(check_body(body), str)


JSONISH = st.lists(
    st.sampled_from(
        [
            *b'{ } [ ] " : , 1 - . e \\ \\u d800 null NaN "a" "a": \\n \\" \x00 \xff \xc3 \xa9'.split(b" "),
            b" ",
            b"\n",
            b"\r",
        ]
    ),
    max_size=14,
).map(b"".join)


@given(body=JSONISH | st.binary(max_size=20))
@example(b'{"a":1,"a":2}')
@example(b'"\\ud800"')
def test_what_is_accepted_can_be_read(body):
    def refuse(name: str):
        raise ValueError(name)

    try:
        value = json.loads(body.decode(), parse_constant=refuse)
    except ValueError:
        assert check_body(body) is not None
    else:
        assert check_body(body) is None
        assert json.loads(one_line(body)) == value


@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=30,
    ),
    indent=st.none() | st.integers(0, 3),
    ascii_=st.booleans(),
)
def test_every_json_value_is_accepted(value, indent, ascii_):
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_).encode().replace(b"\n", b"\r\n")
    assert check_body(body) is None
    assert json.loads(one_line(body)) == value
