from __future__ import annotations

import json
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_kit import make_plan

from batch_infer.protocol.text import Text
from batch_inferd.backends.reply import Usage
from batch_inferd.backends.transport import NotSent, SentFailed
from batch_inferd.failures import (
    HOLD_MAX_S,
    Action,
    blocked_text,
    classify_exception,
    classify_reply,
    network_text,
    retry_after,
)

NOW = 1_760_000_000.0
PLAN = make_plan(
    "http://service/v1",
    credit_codes=[
        "insufficient_quota",
        "billing_hard_limit_reached",
        "Arrearage",
        "1113",
        "credit balance is too low",
        "余额不足",
    ],
    model_codes=["1211"],
)
ANSWER = {
    "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}


def error_body(message="no", code=None, kind=None, **more):
    return json.dumps({"error": {"message": message, "code": code, "type": kind, **more}}).encode()


def judge(status, body=b"{}", **headers):
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify_reply(status, lower, body, PLAN, NOW)


def test_an_answer_is_an_answer_with_its_usage():
    verdict = judge(200, json.dumps(ANSWER).encode())
    assert verdict.action is Action.ANSWER
    assert verdict.usage == Usage(3, 4)
    assert verdict.finish_reason == "stop"


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"output": [{}], "usage": {"input_tokens": 5, "output_tokens": 6}}, (5, 6)),
        ({"data": [{}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}, (7, 0)),
        ({"choices": [{}], "usage": None}, (None, None)),
        ({"choices": [{}]}, (None, None)),
        ({"choices": [{}], "usage": {"prompt_tokens": "many"}}, (None, None)),
        ({"choices": [{}], "usage": [1]}, (None, None)),
    ],
)
def test_usage_is_read_in_all_dialects_and_never_an_error(body, usage):
    verdict = judge(200, json.dumps(body).encode())
    assert (verdict.action, verdict.usage) == (Action.ANSWER, Usage(*usage))


def test_a_lone_surrogate_in_an_answer_is_an_answer():
    body = json.dumps(ANSWER).replace('"x"', '"half \\ud83d"').encode()
    verdict = judge(200, body)
    assert (verdict.action, verdict.usage, verdict.finish_reason) == (Action.ANSWER, Usage(3, 4), "stop")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>ok</html>",
        b'{"choices": [',
        b'{"choices": ["\xff"]}',
        b"[1]",
        b'"text"',
        b'{"choices": [NaN]}',
        b'{"choices": ["a\nb"]}',
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_a_200_that_is_no_json_object_is_retried(body):
    verdict = judge(200, body)
    assert (verdict.action, verdict.cls) == (Action.RETRY, "unparsable")


@pytest.mark.parametrize(
    ("status", "action", "cls"),
    [
        (301, Action.RETRY, "redirected"),
        (400, Action.END, "bad_request"),
        (401, Action.BLOCK, "auth"),
        (402, Action.BLOCK, "credit"),
        (403, Action.BLOCK, "auth"),
        (404, Action.END, "not_found"),
        (405, Action.END, "bad_request"),
        (408, Action.RETRY, "timeout"),
        (409, Action.RETRY, "server_error"),
        (413, Action.END, "too_large"),
        (422, Action.END, "unprocessable"),
        (429, Action.THROTTLE, "rate_limited"),
        (500, Action.RETRY, "server_error"),
        (502, Action.RETRY, "server_error"),
        (503, Action.RETRY, "server_error"),
        (529, Action.RETRY, "server_error"),
    ],
)
@pytest.mark.parametrize("body", [error_body(), b"", b"<html>bad gateway</html>", b'{"detail":"x"}'])
def test_the_table_by_status(status, action, cls, body):
    verdict = judge(status, body)
    assert (verdict.action, verdict.cls) == (action, cls)
    assert str(status) in verdict.message


def test_503_with_retry_after_throttles_the_account():
    verdict = judge(503, retry_after="7")
    assert (verdict.action, verdict.cls, verdict.retry_after) == (Action.THROTTLE, "rate_limited", 7.0)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, error_body("You exceeded your current quota", code="insufficient_quota")),
        (429, error_body("You exceeded your current quota", kind="insufficient_quota")),
        (400, error_body("Your credit balance is too low to access the API")),
        (400, error_body("x", code="Arrearage")),
        (429, error_body("账户余额不足，请充值", code="1113")),
        (403, error_body("余额不足")),
        (200, error_body("x", code="insufficient_quota")),
    ],
)
def test_credit_by_code_or_phrase(status, body):
    verdict = judge(status, body)
    assert (verdict.action, verdict.cls) == (Action.BLOCK, "credit")


def test_a_number_in_a_message_is_no_code():
    assert judge(400, error_body("the prompt has 1113 tokens")).cls == "bad_request"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, error_body("The model `x` does not exist", code="model_not_found")),
        (404, b'{"message":"The model `x` does not exist.","type":"NotFoundError","code":404}'),
        (404, error_body('model "x" not found, try pulling it first')),
        (400, error_body("x", code="1211")),
        (403, error_body("Project does not have access", code="model_not_found")),
    ],
)
def test_no_such_model(status, body):
    verdict = judge(status, body)
    assert (verdict.action, verdict.cls) == (Action.BLOCK, "model")


@pytest.mark.parametrize(
    "body",
    [
        error_body("Request too large for gpt-4 in organization x on tokens per min (TPM): Limit 10000"),
        error_body("x", code="context_length_exceeded"),
        error_body("This model's maximum context length is 4096 tokens"),
        error_body("Prompt is too long"),
    ],
)
def test_a_429_that_says_too_large_ends_the_record(body):
    verdict = judge(429, body, retry_after="1")
    assert (verdict.action, verdict.cls) == (Action.END, "too_large")


@pytest.mark.parametrize(
    ("error", "action", "cls"),
    [
        ({"code": 429, "message": "slow"}, Action.THROTTLE, "rate_limited"),
        ({"code": "rate_limit_exceeded"}, Action.THROTTLE, "rate_limited"),
        ({"code": 502, "message": "upstream"}, Action.RETRY, "server_error"),
        ({"code": "context_length_exceeded"}, Action.END, "bad_request"),
        ({"type": "invalid_request_error"}, Action.END, "bad_request"),
        ({"code": 401}, Action.BLOCK, "auth"),
        ({"message": "who knows"}, Action.RETRY, "server_error"),
        ("a bare string", Action.RETRY, "server_error"),
    ],
)
@pytest.mark.parametrize("empty", [{}, {"choices": []}, {"output": []}, {"data": None}])
def test_an_error_inside_a_200_counts_by_its_code(error, action, cls, empty):
    verdict = judge(200, json.dumps({"error": error, **empty}).encode())
    assert (verdict.action, verdict.cls) == (action, cls)


def test_an_answer_with_an_empty_error_beside_it_is_an_answer():
    assert judge(200, json.dumps({**ANSWER, "error": None}).encode()).action is Action.ANSWER
    assert judge(200, json.dumps({**ANSWER, "error": {"code": "warning"}}).encode()).action is Action.ANSWER


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": "99999999999"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Mon, 99 Foo 2026 00:00:00 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_in_all_forms(headers, seconds):
    assert retry_after(headers, NOW) == seconds


def test_a_wait_of_more_than_an_hour_is_a_quota():
    assert judge(429, retry_after=str(int(HOLD_MAX_S))).action is Action.THROTTLE
    verdict = judge(429, retry_after=str(int(HOLD_MAX_S) + 1))
    assert (verdict.action, verdict.cls, verdict.retry_after) == (Action.BLOCK, "credit", HOLD_MAX_S + 1)


@given(
    st.integers(100, 999),
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps({"error": value}).encode()
    ),
    st.text(max_size=20),
)
def test_nothing_that_comes_back_raises(status, body, header):
    verdict = classify_reply(status, {"retry-after": header}, body, PLAN, NOW)
    assert verdict.action in Action
    assert verdict.action is Action.ANSWER or verdict.cls


def test_what_was_not_sent_waits_and_says_where():
    error = NotSent("refused", "connection refused", "localhost:8000")
    verdict = classify_exception(error)
    assert (verdict.action, verdict.cls) == (Action.NETWORK, "network")
    assert verdict.message == "cannot connect to localhost:8000 (connection refused)"
    assert str(network_text(error)) == verdict.message


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("dns", "cannot be resolved"),
        ("connect_timeout", "in time"),
        ("tls", "certificate"),
        ("proxy", "through the proxy"),
        ("unreachable", "unreachable"),
    ],
)
def test_each_reason_has_its_words(reason, part):
    assert part in str(network_text(NotSent(reason, "the certificate has expired", "host:443")))


@pytest.mark.parametrize("reason", ["reset", "timeout", "truncated", "unparsable"])
def test_what_may_have_been_sent_is_retried(reason):
    verdict = classify_exception(SentFailed(reason, "words"))
    assert (verdict.action, verdict.cls, verdict.message) == (Action.RETRY, reason, "words")


def test_an_answer_that_is_too_large_is_not_asked_for_again():
    verdict = classify_exception(SentFailed("response_too_large", "words"))
    assert (verdict.action, verdict.cls) == (Action.END, "response_too_large")


@pytest.mark.parametrize(("status", "part"), [(401, "credential"), (402, "credit")])
def test_a_block_says_what_the_service_said(status, part):
    text = blocked_text(judge(status, error_body("the service's own words")))
    assert isinstance(text, Text)
    assert part in str(text)
    assert "the service's own words" in str(text)


NO_ANSWERS = [
    b"{}",
    b'{"object":"error","message":"overloaded","code":503}',
    b'{"code":1001,"message":"invalid token"}',
    b'{"code":500,"msg":"404 NOT_FOUND","success":false}',
    b'{"base_resp":{"status_code":1008,"status_msg":"no balance left"},"choices":null}',
    b'[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]',
    b'{"choices":[]}',
]


@pytest.mark.parametrize("body", NO_ANSWERS)
def test_a_200_without_content_is_no_answer(body):
    verdict = judge(200, body)
    assert verdict.action is Action.RETRY
    if b"essage" in body or b"msg" in body:
        assert "with an error: " in verdict.message


def test_an_empty_answer_that_was_billed_is_not_asked_for_again():
    verdict = judge(200, b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":0}}')
    assert (verdict.action, verdict.cls) == (Action.END, "bad_request")


def test_the_profile_says_what_means_no_credit():
    body = b'{"error":{"code":"insufficient_quota","message":"tokens a minute"}}'
    plan = make_plan("http://x/v1", credit_codes=["Arrearage"])
    assert classify_reply(429, {}, body, plan, NOW).action is Action.THROTTLE
    assert judge(429, body).cls == "credit"


@pytest.mark.parametrize(
    "message", ["requires moderation and your input was flagged", "Content violates usage guidelines."]
)
def test_a_moderated_record_does_not_block_the_account(message):
    verdict = judge(403, json.dumps({"error": {"message": message, "code": 403}}).encode())
    assert (verdict.action, verdict.cls) == (Action.END, "bad_request")
    assert judge(403, b'{"error":{"message":"key not allowed"}}').cls == "auth"


def test_a_404_about_something_else_does_not_name_a_model():
    other = b'{"error":{"message":"previous response for this model was not found"}}'
    assert judge(404, other).cls == "not_found"
    assert judge(404, b'{"error":{"message":"The model `foo` does not exist."}}').cls == "model"
    assert judge(404, b'{"error":"model \\"foo\\" not found, try pulling it first"}').cls == "model"


def test_an_error_that_is_only_true():
    assert "boom" in judge(500, b'{"error":true,"message":"boom"}').message


def test_secrets_go_before_a_text_is_cut():
    key = b"sk-0123456789abcdef"
    body = b"x" * 490 + key + b"y" * 100
    verdict = classify_reply(502, {}, body, PLAN, NOW, lambda data: data.replace(key, b"***"))
    assert "sk-0" not in verdict.message
