from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_inferd.backends import rawjson
from batch_inferd.backends.reply import read_any, read_body

_counts = st.one_of(st.none(), st.integers(-1, 2**70), st.text(max_size=2), st.floats(allow_nan=False))
_choice = st.one_of(
    st.none(),
    st.text(max_size=2),
    st.dictionaries(
        st.sampled_from(["finish_reason", "message", "index"]),
        st.one_of(st.none(), st.text(max_size=3), st.integers(), st.just([[{}]])),
    ),
)
_body = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.one_of(st.none(), st.lists(_choice, max_size=2), st.text(max_size=2)),
        "usage": st.one_of(
            st.none(),
            st.lists(_counts, max_size=1),
            st.dictionaries(
                st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens"]),
                _counts,
            ),
        ),
        "error": st.one_of(st.none(), st.text(max_size=3), st.just({"message": "no"})),
        "data": st.one_of(st.none(), st.just([]), st.just([1])),
        "output": st.one_of(st.none(), st.just([{}])),
    },
)


def outcome(read, body):
    try:
        return read(body)
    except rawjson.InvalidJson as error:
        return str(error)


@given(_body, st.booleans(), st.sampled_from([None, 0, -1, 5]), st.binary(min_size=1, max_size=2))
@example({"choices": [{"finish_reason": "stop"}]}, False, None, b"x")
def test_the_quick_way_is_the_same(fields, ascii_only, damage_at, damage):
    body = json.dumps(fields, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if damage_at is not None:
        at = min(damage_at % len(body), len(body) - 1)
        body = body[:at] + damage + body[at + 1 :]
    assert outcome(read_body, body) == outcome(read_any, body)


@pytest.mark.parametrize(
    "inside",
    [
        b"[" * 400 + b"]" * 400,
        b"9" * 5000,
        b'"' + b"\\ud83d" + b'"',
        b'"\xff"',
        b'"\n"',
        b"NaN",
    ],
)
def test_what_cannot_stand_in_our_lines_is_found_either_way(inside):
    body = b'{"choices":[{"finish_reason":"stop","x":%b}]}' % inside
    assert outcome(read_body, body) == outcome(read_any, body)
