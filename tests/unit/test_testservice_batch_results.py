"""The result files of batches: right by default, and wrong in every way that a control orders."""

import json

import httpx
import pytest
from batch_service_kit import Client, request, requests, reset

from batch_inferd.testing.chat import answer_text
from batch_inferd.testing.embeddings import embedding
from batch_inferd.testing.process import start_service


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("results") / "service") as service:
        yield service


@pytest.fixture
def service(running):
    reset(running)
    return running


@pytest.fixture
def client(service):
    with Client(service) as client:
        yield client


def counts(results):
    given = results.batch["request_counts"]
    return given["total"], given["completed"], given["failed"]


def test_each_request_gets_the_answer_that_a_call_would_get(client, service):
    lines = requests(3, "夜", temperature=0.1)
    results = client.run(lines)
    assert results.ids == ["r1", "r2", "r3"]
    assert results.errors == []
    for sent, got in zip(lines, results.output, strict=True):
        assert set(got) == {"id", "custom_id", "response", "error"}
        assert got["id"].startswith("batch_req_")
        assert got["error"] is None
        response = got["response"]
        assert set(response) == {"status_code", "request_id", "body"}
        assert response["status_code"] == 200
        online = httpx.post(
            f"{service.base_url}/chat/completions",
            json=sent["body"],
            headers={"api-key": "k"},
            trust_env=False,
        ).json()
        for name in ("choices", "usage", "model", "object"):
            assert response["body"][name] == online[name]
        text = answer_text(sent["body"]["messages"])
        assert response["body"]["choices"][0]["message"]["content"] == text
    assert len({got["id"] for got in results.output}) == 3
    assert len({got["response"]["request_id"] for got in results.output}) == 3
    assert len({got["response"]["body"]["id"] for got in results.output}) == 3


def test_embeddings(client):
    url = "/v1/embeddings"
    lines = [
        {"custom_id": text, "method": "POST", "url": url, "body": {"model": "m", "input": text}}
        for text in ("one", "two")
    ]
    results = client.run(lines, url)
    for line in results.output:
        (item,) = line["response"]["body"]["data"]
        assert item["embedding"] == embedding(line["custom_id"]).tolist()
    row = client.service.batches()[-1]
    assert (row.billed_lines, row.billed_in, row.billed_out) == (2, 2, 0)


@pytest.mark.parametrize("url", ["/chat/completions", "/v4/chat/completions", "/v1/chat/ds-test"])
def test_urls_of_other_providers(client, url):
    results = client.run([request("a", "x", url=url)], url)
    assert results.output[0]["response"]["body"]["object"] == "chat.completion"


def test_results_in_any_order(client, service):
    lines = requests(50)
    service.control(batch_shuffle=True)
    first, second = client.run(lines), client.run(lines)
    assert first.ids != [line["custom_id"] for line in lines]
    assert sorted(first.ids) == sorted(second.ids) == sorted(line["custom_id"] for line in lines)
    assert first.ids != second.ids


def test_results_that_come_twice(client, service):
    service.control(batch_duplicate_rate=1, batch_error_rate=0.5)
    results = client.run(requests(20))
    assert len(results.output) + len(results.errors) == 40
    assert len(set(results.ids)) * 2 == len(results.ids)
    assert results.output[0] == results.output[1]
    assert client.service.batches()[-1].billed_lines == len(set(results.ids))
    service.control(batch_duplicate_rate=0.3, batch_error_rate=0)
    assert 30 < len(client.run(requests(30)).output) < 60


def test_results_for_ids_that_were_never_sent(client, service):
    service.control(batch_unknown=3)
    results = client.run(requests(2))
    assert set(results.ids[:2]) == {"r1", "r2"}
    assert len(results.ids) == 5
    assert results.ids[2] == "unknown-1"
    assert results.batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


def test_lines_without_a_result_are_not_billed(client, service):
    service.control(batch_missing_rate=0.5)
    results = client.run(requests(40))
    assert results.state == "completed"
    assert 0 < len(results.ids) < 40
    assert results.errors == []
    lines = service.batch_lines(results.batch["id"])
    assert [line.custom_id for line in lines if line.billed] == results.ids


def test_lines_that_end_with_500(client, service):
    service.control(batch_error_rate=0.5)
    results = client.run(requests(40))
    assert len(results.ids) + len(results.error_ids) == 40
    assert min(len(results.ids), len(results.error_ids)) > 0
    assert counts(results) == (40, len(results.ids), len(results.error_ids))
    assert {line["response"]["status_code"] for line in results.errors} == {500}
    billed = [line.custom_id for line in service.batch_lines(results.batch["id"]) if line.billed]
    assert billed == results.ids


def test_completed_without_an_output_file(client, service):
    service.control(batch_no_output_file=True)
    results = client.run(requests(3))
    assert results.state == "completed"
    assert results.batch["output_file_id"] is None
    assert results.error_ids == ["r1", "r2", "r3"]
    assert service.batches()[-1].billed_lines == 0


def test_an_error_file_without_an_error(client, service):
    service.control(batch_empty_error_file=True)
    results = client.run(requests(2))
    assert results.raw["error"] == b""
    assert client.good(client.http.get(f"/files/{results.batch['error_file_id']}"))["bytes"] == 0


def test_line_ends(client, service):
    service.control(batch_crlf=True)
    raw = client.run(requests(2)).raw["output"]
    assert raw.count(b"\r\n") == raw.count(b"\n") == 2
    assert raw.endswith(b"\r\n")
    service.control(batch_no_final_newline=True)
    raw = client.run(requests(2)).raw["output"]
    assert raw.count(b"\r\n") == 1
    assert raw.endswith(b"}")
    service.control(batch_crlf=False, batch_error_rate=1)
    assert client.run(requests(2)).raw["error"].endswith(b"}")


def test_a_body_that_is_a_string(client, service):
    service.control(batch_body_string=True, batch_no_error_key=True, batch_error_rate=0.5)
    results = client.run(requests(20))
    for line in results.output + results.errors:
        assert "error" not in line
        assert isinstance(line["response"]["body"], str)
    assert json.loads(results.output[0]["response"]["body"])["object"] == "chat.completion"
    assert json.loads(results.errors[0]["response"]["body"])["error"]["type"] == "server_error"


@pytest.mark.parametrize("shape", ["response_null", "no_response"])
def test_dialects_of_error_lines(client, service, shape):
    service.control(batch_error_line=shape, rules=[{"contains": "q 1", "do": "422"}])
    results = client.run(requests(2))
    (line,) = results.errors
    assert line["error"] == {
        "code": "unprocessable_entity", "message": "This record cannot be processed."
    }  # fmt: skip
    assert ("response" in line) == (shape == "response_null")
    assert line.get("response") is None


@pytest.mark.parametrize(
    ("do", "status"),
    [
        *((do, int(do)) for do in ("400", "401", "403", "404", "422", "429", "500", "503")),
        ("429_too_large", 429),
        ("drop", 500),
        ("garbage", 500),
        ("hang", 500),
        ("truncate", 500),
    ],
)
def test_rules_hold_for_lines(client, service, do, status):
    service.control(rules=[{"contains": "q 2", "do": do}])
    results = client.run(requests(3))
    assert results.ids == ["r1", "r3"]
    assert results.errors[0]["response"]["status_code"] == status
    assert service.batches()[-1].billed_lines == 2


def test_a_rule_that_is_slow_fails_nothing(client, service):
    service.control(rules=[{"contains": "q", "do": "slow:5"}])
    assert client.run(requests(2)).ids == ["r1", "r2"]


def test_a_rule_has_so_many_times(client, service):
    service.control(rules=[{"contains": "q", "do": "500", "times": 3}])
    assert client.run(requests(2)).error_ids == ["r1", "r2"]
    results = client.run(requests(2))
    assert (results.ids, results.error_ids) == (["r2"], ["r1"])


def test_an_account_without_credit_fails_the_lines(client, service):
    service.control(batch_state_hold="validating")
    batch_id = client.batch(requests(2))
    service.control(credit="402", batch_state_hold=None)
    results = client.results(batch_id, "completed")
    assert [line["response"]["status_code"] for line in results.errors] == [402, 402]
    assert service.batches()[-1].billed_lines == 0


def test_pretty_and_padded_bodies_are_still_one_line_each(client, service):
    service.control(pretty="crlf", oversize_bytes=100_000)
    results = client.run(requests(2))
    assert results.ids == ["r1", "r2"]
    assert len(results.raw["output"]) > 200_000
    assert "\u2028" in results.output[0]["response"]["body"]["note"]


def test_all_disorder_at_once_is_the_same_after_a_restart(tmp_path):
    controls = {
        "batch_shuffle": True, "batch_duplicate_rate": 0.2, "batch_unknown": 5, "batch_missing_rate": 0.2,
        "batch_error_rate": 0.2, "batch_crlf": True, "batch_no_final_newline": True, "seed": 5,
    }  # fmt: skip
    seen = []
    for name in ("a", "b"):
        with start_service(tmp_path / name, controls) as service, Client(service) as client:
            results = client.run(requests(200))
            seen.append((results.ids, results.error_ids))
            assert len(set(results.ids)) > 100
    assert seen[0] == seen[1]


def test_looks_of_other_servers(client, service):
    service.control(batch_null_counts=True, batch_blank_ids=True, batch_upper_states=True)
    batch = client.good(client.create(client.file(requests(1))))
    assert batch["request_counts"] is None
    assert (batch["output_file_id"], batch["error_file_id"]) == ("", "")
    assert batch["status"] in ("VALIDATING", "IN_PROGRESS", "FINALIZING", "COMPLETED")
    ended = client.wait(batch["id"], "COMPLETED")
    assert ended["error_file_id"] == ""
    assert client.content(ended["output_file_id"])
    service.control(batch_upper_states=False)
    assert client.retrieve(batch["id"])["status"] == "COMPLETED"
