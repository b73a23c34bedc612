"""Every control, seen from the other end of a real connection."""

import asyncio
import contextlib
import json
import socket
import time

import httpx
import msgspec
import pytest

from batch_inferd.testing.chat import answer_text
from batch_inferd.testing.controls import Controls, ControlsError
from batch_inferd.testing.process import start_service


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("faults") / "service") as running:
        yield running


@pytest.fixture
def service(shared):
    shared.control(**Controls().as_json())
    return shared


@pytest.fixture
def client(service):
    headers = {"Authorization": "Bearer any"}
    with httpx.Client(base_url=service.base_url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def body_for(text="hello"):
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def chat(client, text="hello"):
    return client.post("/chat/completions", json=body_for(text))


def statuses(client, count, text="hello"):
    return [chat(client, text).status_code for _ in range(count)]


@contextlib.contextmanager
def open_call(service, text="hello"):
    """A raw socket on which a call has been sent."""
    body = json.dumps(body_for(text)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: k\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        yield connection


def test_controls_can_be_read_and_merged(service, client):
    own = service.base_url.removesuffix("/v1") + "/_control"
    told = client.get(own).json()
    assert told["pid"] == service.pid
    assert told["controls"] == Controls().as_json()
    assert service.control(error_rate=0.5)["error_rate"] == 0.5
    assert service.control(seed=7)["error_rate"] == 0.5


def test_bad_controls_change_nothing(service, client):
    own = service.base_url.removesuffix("/v1") + "/_control"
    with pytest.raises(ControlsError, match="unknown controls: latency; known: latency_ms, "):
        service.control(latency=5, error_rate=1)
    for content in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
        response = client.post(own, content=content)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"
    assert client.get(own).json()["controls"] == Controls().as_json()
    assert client.get(own + "s").status_code == 404


def test_latency(service, client):
    service.control(latency_ms=60)
    begin = time.monotonic()
    assert chat(client).status_code == 200
    assert time.monotonic() - begin >= 0.06
    service.control(latency_ms=[30, 40])
    begin = time.monotonic()
    assert chat(client).status_code == 200
    assert time.monotonic() - begin >= 0.03


def test_latency_does_not_queue_requests(service):
    service.control(latency_ms=200)

    async def many():
        async with httpx.AsyncClient(trust_env=False, timeout=30, headers={"api-key": "k"}) as client:
            url = f"{service.base_url}/chat/completions"
            return await asyncio.gather(*(client.post(url, json=body_for()) for _ in range(20)))

    begin = time.monotonic()
    answers = asyncio.run(many())
    assert {answer.status_code for answer in answers} == {200}
    assert time.monotonic() - begin < 20 * 0.2


def test_error_rate_follows_the_seed(service, client):
    service.control(error_rate=0.5, seed=3)
    first = statuses(client, 20)
    service.control(seed=3)
    assert statuses(client, 20) == first
    assert set(first) == {200, 500}
    service.control(seed=4)
    assert statuses(client, 20) != first


def test_a_500_is_in_openais_shape_or_a_proxys_page(service, client):
    service.control(error_rate=1)
    assert chat(client).json()["error"]["type"] == "server_error"
    service.control(html_5xx=True)
    page = chat(client)
    assert page.status_code == 502
    assert page.headers["content-type"] == "text/html"
    assert page.text.startswith("<html>")


@pytest.mark.parametrize("retry_after", [None, "2", "Wed, 21 Oct 2026 07:28:00 GMT", "a while", "-1"])
def test_429_with_retry_after_as_it_was_told(service, client, retry_after):
    service.control(rate_429=1, retry_after=retry_after)
    response = chat(client)
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert response.headers.get("retry-after") == retry_after


def test_a_storm_ends(service, client):
    service.control(storm_429=3)
    assert statuses(client, 5) == [429, 429, 429, 200, 200]
    service.control(storm_429=1)
    assert statuses(client, 2) == [429, 200]


def test_rpm_is_a_real_limit(service, client):
    service.control(rpm=2)
    first, second, third = chat(client), chat(client), chat(client)
    assert [r.status_code for r in (first, second, third)] == [200, 200, 429]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(third.headers["retry-after"]) <= 30
    service.control(rpm=None)
    assert "x-ratelimit-limit-requests" not in chat(client).headers


def test_max_concurrency(service):
    service.control(max_concurrency=2, rules=[{"contains": "stay", "do": "hang"}])
    with open_call(service, "stay one"), open_call(service, "stay two"):
        wait_until(lambda: outcomes(service, "hung") >= 2)
        with httpx.Client(base_url=service.base_url, headers={"api-key": "k"}, trust_env=False) as client:
            refused = chat(client)
            assert refused.status_code == 429
            assert "concurrent" in refused.json()["error"]["message"]
    wait_until(lambda: service_answers(service))


def service_answers(service):
    with httpx.Client(base_url=service.base_url, headers={"api-key": "k"}, trust_env=False) as client:
        return chat(client).status_code == 200


def outcomes(service, outcome):
    return service.summary().by_outcome.get(outcome, 0)


def wait_until(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"


def test_drop_closes_without_a_byte(service, client):
    service.control(drop_rate=1)
    with open_call(service) as connection:
        assert connection.recv(1000) == b""
    with pytest.raises(httpx.RemoteProtocolError):
        chat(client)


def test_truncate_promises_more_than_it_sends(service, client):
    service.control(truncate_rate=1)
    with open_call(service) as connection:
        raw = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = raw.partition(b"\r\n\r\n")
    promised = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
    assert head.startswith(b"HTTP/1.1 200")
    assert 0 < len(body) < promised
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        chat(client)


def test_garbage_is_a_200_that_is_no_json(service, client):
    service.control(garbage_rate=1)
    response = chat(client)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    with pytest.raises((msgspec.DecodeError, UnicodeError)):
        msgspec.json.decode(response.content)
    with pytest.raises(UnicodeDecodeError):
        response.content.decode()


def test_a_slow_loris_sends_bytes_and_never_ends(service):
    service.control(slow_loris_rate=1)
    with open_call(service) as connection:
        raw = b""
        while raw.count(b"1\r\n \r\n") < 3:
            raw += connection.recv(1000)
        assert raw.startswith(b"HTTP/1.1 200")
        assert b"0\r\n\r\n" not in raw


@pytest.mark.parametrize("pretty", [True, "lf", "crlf"])
def test_pretty_bodies_are_many_lines_and_awkward(service, client, pretty):
    service.control(pretty=pretty)
    response = chat(client)
    line_end = b"\r\n" if pretty == "crlf" else b"\n"
    assert response.content.count(line_end) > 10
    assert (b"\r" in response.content) == (pretty == "crlf")
    assert "\u2028".encode() in response.content
    assert response.json()["choices"][0]["message"]["content"] == answer_text(body_for()["messages"])
    assert client.post("/embeddings", json={"model": "m", "input": "x"}).content.count(line_end) > 10


def test_oversize_answers_are_good_json(service, client):
    service.control(oversize_bytes=3_000_000)
    response = chat(client)
    assert len(response.content) >= 3_000_000
    assert response.json()["choices"][0]["message"]["content"] == answer_text(body_for()["messages"])


@pytest.mark.parametrize(
    ("controls", "status", "code"),
    [
        ({"auth": "401"}, 401, "invalid_api_key"),
        ({"auth": "403"}, 403, "insufficient_permissions"),
        ({"bad_keys": ["any"]}, 401, "invalid_api_key"),
        ({"credit": "insufficient_quota"}, 429, "insufficient_quota"),
        ({"credit": "402"}, 402, "invalid_request_error"),
        ({"unknown_models": ["m"]}, 404, "model_not_found"),
    ],
)
def test_the_accounts_troubles(service, client, controls, status, code):
    service.control(**controls)
    response = chat(client)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    service.control(**{name: Controls().as_json()[name] for name in controls})
    assert chat(client).status_code == 200


@pytest.mark.parametrize(
    ("do", "status", "code"),
    [
        ("400", 400, None),
        ("401", 401, "invalid_api_key"),
        ("403", 403, "insufficient_permissions"),
        ("404", 404, "not_found"),
        ("422", 422, "unprocessable_entity"),
        ("429", 429, "rate_limit_exceeded"),
        ("429_too_large", 429, "rate_limit_exceeded"),
        ("500", 500, None),
        ("503", 503, None),
    ],
)
def test_a_rule_fits_by_content(service, client, do, status, code):
    service.control(rules=[{"contains": "poison", "do": do}], retry_after="9")
    response = chat(client, "this is poison!")
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers.get("retry-after") == ("9" if do in ("429", "503") else None)
    assert ("too large" in response.text) == (do == "429_too_large")
    assert chat(client, "this is not").status_code == 200


def test_a_rule_looks_at_the_last_user_message_only(service, client):
    service.control(rules=[{"contains": "poison", "do": "400"}])
    turns = [{"role": "user", "content": "poison"}, {"role": "user", "content": "fine"}]
    assert client.post("/chat/completions", json={"model": "m", "messages": turns}).status_code == 200
    assert client.post("/embeddings", json={"model": "m", "input": ["a", "poison"]}).status_code == 400


def test_a_rule_ends_after_its_times_and_the_next_one_applies(service, client):
    rules = [{"contains": "x", "do": "500", "times": 2}, {"contains": "x", "do": "422", "times": 1}]
    service.control(rules=rules)
    assert statuses(client, 4, "x") == [500, 500, 422, 200]
    service.control(rules=rules)
    assert statuses(client, 1, "x") == [500]


def test_rules_that_break_the_connection(service, client):
    service.control(
        rules=[
            {"contains": "drop", "do": "drop"},
            {"contains": "truncate", "do": "truncate"},
            {"contains": "garbage", "do": "garbage"},
            {"contains": "slow", "do": "slow:0.05"},
            {"contains": "hang", "do": "hang"},
        ]
    )
    for text in ("drop", "truncate"):
        with pytest.raises(httpx.RemoteProtocolError):
            chat(client, text)
    assert b"<garbage>" in chat(client, "garbage").content
    begin = time.monotonic()
    assert chat(client, "slow").status_code == 200
    assert time.monotonic() - begin >= 0.05
    with pytest.raises(httpx.ReadTimeout):
        client.post("/chat/completions", json=body_for("hang"), timeout=0.2)


def test_a_refusal_leaves_the_connection_usable(service, client):
    service.control(rules=[{"contains": "no", "do": "422"}])
    for _ in range(3):
        assert statuses(client, 1, "no") == [422]
        assert statuses(client, 1, "go on") == [200]
