"""The validation of a batch's file, in OpenAI's words; and that nothing of it is billed when it fails."""

import json

import pytest
from batch_service_kit import CHAT, Client, jsonl, request, requests, reset

from batch_inferd.testing.process import start_service


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("lines") / "service") as service:
        yield service


@pytest.fixture
def service(running):
    reset(running)
    return running


@pytest.fixture
def client(service):
    with Client(service) as client:
        yield client


def refused(client, lines, endpoint=CHAT):
    """The problems of a batch that must fail its validation."""
    results = client.run(lines, endpoint)
    assert results.state == "failed"
    assert (results.raw["output"], results.raw["error"]) == (None, None)
    assert results.batch["in_progress_at"] is None
    row = client.service.batches()[-1]
    assert (row.id, row.billed_lines, row.ended is not None) == (results.batch["id"], 0, True)
    return results.problems


GOOD = request("good", "good")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"not json", ("invalid_json_line", 2, None)),
        (b"[]", ("invalid_json_line", 2, None)),
        (b'"x"', ("invalid_json_line", 2, None)),
        (b'{"custom_id": "x"', ("invalid_json_line", 2, None)),
        ({k: v for k, v in GOOD.items() if k != "custom_id"}, ("missing_required_parameter", 2, "custom_id")),
        (GOOD | {"custom_id": ""}, ("missing_required_parameter", 2, "custom_id")),
        (GOOD | {"custom_id": 7}, ("missing_required_parameter", 2, "custom_id")),
        (GOOD, ("duplicate_custom_id", 2, "custom_id")),
        (request("x", "x") | {"method": "GET"}, ("invalid_method", 2, "method")),
        (request("x", "x") | {"method": None}, ("missing_required_parameter", 2, "method")),
        (request("x", "x", url="/v1/embeddings"), ("invalid_url", 2, "url")),
        (request("x", "x") | {"url": None}, ("missing_required_parameter", 2, "url")),
        (request("x", "x", model="other"), ("mismatched_model", 2, "body.model")),
        (request("x", "x", model="other", messages=7), ("mismatched_model", 2, "body.model")),
        (request("x", "x", model=None), ("missing_required_parameter", 2, "body.model")),
        (request("x", "x") | {"body": "x"}, ("missing_required_parameter", 2, "body.model")),
        (
            {k: v for k, v in request("x", "x").items() if k != "body"},
            ("missing_required_parameter", 2, "body"),
        ),
    ],
)
def test_a_line_that_is_not_valid_is_named(client, line, problem):
    raw = line + b"\n" if isinstance(line, bytes) else jsonl([line])
    assert refused(client, jsonl([GOOD]) + raw + jsonl([request("last", "x")])) == [problem]


def test_all_lines_are_named_at_once(client):
    lines = jsonl([GOOD]) + b"x\n\n" + jsonl([GOOD, request("y", "y", model="n")])
    assert refused(client, lines) == [
        ("invalid_json_line", 2, None),
        ("duplicate_custom_id", 4, "custom_id"),
        ("mismatched_model", 5, "body.model"),
    ]


@pytest.mark.parametrize("data", [b"", b"\n", b"  \r\n\n"])
def test_a_file_without_requests(client, data):
    assert refused(client, data) == [("empty_file", None, None)]


def test_a_byte_order_mark_is_refused(client):
    assert refused(client, b"\xef\xbb\xbf" + jsonl(requests(2))) == [("invalid_json_line", 1, None)]


def test_a_file_with_too_many_requests(client, service):
    service.control(batch_max_requests=10)
    assert refused(client, requests(11)) == [("too_many_tasks", None, None)]
    assert client.run(requests(10)).state == "completed"


def test_models_that_are_not_there(client, service):
    service.control(unknown_models=["m"])
    assert refused(client, requests(2)) == [("model_not_found", 1, "body.model")]
    service.control(unknown_models=[], batch_model_whitelist=["other"])
    assert refused(client, requests(2)) == [("model_not_found", 1, "body.model")]
    assert client.run(requests(2, model="other")).state == "completed"


def test_lines_that_a_control_makes_invalid(client, service):
    service.control(batch_invalid=["q 3", "q 5"])
    lines = requests(6)
    assert refused(client, lines) == [
        ("invalid_request", 3, "body.messages"),
        ("invalid_request", 5, "body.messages"),
    ]
    service.control(batch_invalid_unnamed=True)
    assert refused(client, lines) == [("invalid_request", None, None)]
    assert client.run([lines[0], lines[1], lines[3]]).state == "completed"


def test_outcomes_that_fail_the_validation(client, service):
    service.control(batch_outcomes=["validation_lines", "validation_none", "token_limit_exceeded"])
    assert refused(client, requests(3)) == [("invalid_request", 1, "body.messages")]
    assert refused(client, requests(3)) == [("invalid_request", None, None)]
    assert refused(client, requests(3)) == [("token_limit_exceeded", None, None)]
    assert client.run(requests(3)).state == "completed"


def test_queued_tokens_have_a_limit_for_all_live_batches(client, service):
    client.run(requests(10))
    (tokens,) = {row.billed_in for row in service.batches()[-1:]}
    service.control(max_enqueued_tokens=tokens * 2, batch_state_hold="in_progress")
    held = [client.batch(requests(10)) for _ in range(2)]
    for batch_id in held:
        client.wait(batch_id, "in_progress")
    assert refused(client, requests(10)) == [("token_limit_exceeded", None, None)]
    service.control(batch_state_hold=None)
    for batch_id in held:
        assert client.wait(batch_id)["status"] == "completed"
    assert client.run(requests(10)).state == "completed"


def test_blank_lines_and_every_kind_of_line_end(client):
    first, second, third = (json.dumps(line).encode() for line in requests(3))
    data = b"\n" + first + b"\r\n \n" + second + b"\n\r\n" + third
    results = client.run(data)
    assert results.ids == ["r1", "r2", "r3"]
    assert results.batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert [line.line for line in client.service.batch_lines(results.batch["id"])] == [2, 4, 6]


def test_a_character_that_splits_lines_elsewhere(client):
    lines = [request("a\u2028b", "one\u2028two\u0085three"), request("c", "d")]
    data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    assert client.run(data).ids == ["a\u2028b", "c"]


def test_a_body_that_is_wrong_is_its_own_lines_error(client):
    lines = [*requests(2), request("bad", "x", messages=[])]
    results = client.run(lines)
    assert results.state == "completed"
    assert results.ids == ["r1", "r2"]
    (error,) = results.errors
    assert error["custom_id"] == "bad"
    assert error["response"]["status_code"] == 400
    assert error["response"]["body"]["error"]["param"] == "messages"
    assert error["error"] is None
    assert results.batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}


def test_a_surrogate_alone_is_not_valid(client):
    data = jsonl([GOOD]) + b'{"custom_id":"\\ud800","method":"POST","url":"/v1/chat/completions","body":{}}\n'
    assert refused(client, data) == [("invalid_json_line", 2, None)]
