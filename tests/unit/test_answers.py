"""What an answer says, for every endpoint; and results as Python objects."""

import json

import pytest

from batch_infer.protocol.answers import read_answer
from batch_infer.results import Result, read_results


def message(**fields):
    return {"choices": [{"message": fields, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (message(content="yes"), ("yes", "stop")),
        (message(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), ("ab", "stop")),
        (message(content=None, refusal="I will not"), ("I will not", "stop")),
        (message(content=None, tool_calls=[{"id": 1}]), ('[{"id":1}]', "stop")),
        ({"choices": [{"text": "old", "finish_reason": "length"}]}, ("old", "length")),
        ({"choices": []}, ("", "")),
        ({"choices": [None]}, ("", "")),
        (
            {
                "output": [
                    {"type": "reasoning", "content": [{"text": "hm"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "x"}]},
                ],
                "status": "completed",
            },
            ("x", "completed"),
        ),
        (
            {"output": [], "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            ("", "max_output_tokens"),
        ),
        ({"data": [{"embedding": [1, 2]}]}, ("[1,2]", "")),
        ({"data": [{"embedding": [1]}, {"embedding": [2]}]}, ("[[1],[2]]", "")),
        ({"content": [{"type": "text", "text": "c"}], "stop_reason": "end_turn"}, ("c", "end_turn")),
        ({"other": "二"}, ('{"other":"二"}', "")),
        (None, ("null", "")),
    ],
)
def test_answers(body, answer):
    assert read_answer(body) == answer


def test_results():
    lines = [
        {
            "id": "b",
            "custom_id": "1",
            "response": {"status_code": 200, "request_id": None, "body": message(content="yes")},
            "error": None,
        },
        {
            "id": "b",
            "custom_id": "2",
            "response": {"status_code": 400, "request_id": None, "body": {"error": {"message": "no"}}},
            "error": {"code": "bad_request", "message": "HTTP 400: no", "attempts": 1, "line": 2},
        },
        {"id": "b", "custom_id": "3", "response": None, "error": {"code": "missing", "message": "none"}},
    ]
    first, second, third = read_results(json.dumps(line).encode() + b"\n" for line in lines)
    assert (first.ok, first.answer, first.finish_reason, first.status_code) == (True, "yes", "stop", 200)
    assert (second.ok, second.answer, second.error, second.status_code) == (False, None, "bad_request", 400)
    assert second.body == {"error": {"message": "no"}}
    assert third == Result("3", None, error="missing", message="none")
