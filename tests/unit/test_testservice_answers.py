"""What the service answers when nothing is told to go wrong: as OpenAI does, over real HTTP."""

import array
import base64
import hashlib
import math

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.testing.calls import content_digest
from batch_inferd.testing.chat import answer_text, parse_chat
from batch_inferd.testing.embeddings import embedding
from batch_inferd.testing.errors import ApiError
from batch_inferd.testing.process import start_service

HELLO = [{"role": "user", "content": "What is a lease?"}]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    controls = {"bad_keys": ["bad"], "unknown_models": ["gone"]}
    with start_service(tmp_path_factory.mktemp("answers") / "service", controls) as running:
        yield running


@pytest.fixture
def client(service):
    headers = {"Authorization": "Bearer any"}
    with httpx.Client(base_url=service.base_url, headers=headers, trust_env=False) as client:
        yield client


def chat(client, messages=HELLO, **body):
    return client.post("/chat/completions", json={"model": "m", "messages": messages, **body})


def error_of(response):
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")
    return response.status_code, body["error"]["type"], body["error"]["code"]


def test_a_chat_completion(client):
    response = chat(client, temperature=0.6, enable_thinking=False, stop=[], stream=False)
    assert response.status_code == 200
    body = response.json()
    choice = body["choices"][0]
    digest = content_digest(HELLO)
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == answer_text(HELLO)
    assert "What is a lease?" in answer_text(HELLO)
    assert digest[:16] in answer_text(HELLO)
    assert body["model"] == "m"
    assert body["object"] == "chat.completion"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert min(usage.values()) > 0


def test_equal_prompts_get_equal_content_under_ids_of_their_own(client):
    first, second = chat(client), chat(client)
    assert first.json()["choices"] == second.json()["choices"]
    assert first.json()["id"] != second.json()["id"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_a_chinese_prompt_gets_a_chinese_answer(client):
    messages = [{"role": "system", "content": "简短回答"}, {"role": "user", "content": "什么是租约?🙂"}]
    content = chat(client, messages).json()["choices"][0]["message"]["content"]
    assert content.startswith("您问的是“什么是租约?🙂”")


def test_parts_and_turns_without_text_are_understood(client):
    messages = [
        {"role": "user", "content": "before"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "two "},
                {"type": "image_url", "image_url": {"url": "data:,"}},
                {"type": "text", "text": "parts"},
            ],
        },
    ]
    assert "“two parts”" in chat(client, messages).json()["choices"][0]["message"]["content"]


def test_a_body_of_five_megabytes(client):
    messages = [{"role": "user", "content": "x" * 5_000_000}]
    assert chat(client, messages).json()["usage"]["prompt_tokens"] > 1_000_000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (401, "invalid_request_error", None)),
        ({"Authorization": "Basic abc"}, (401, "invalid_request_error", None)),
        ({"Authorization": "Bearer"}, (401, "invalid_request_error", None)),
        ({"Authorization": "Bearer bad"}, (401, "invalid_request_error", "invalid_api_key")),
        ({"api-key": "bad"}, (401, "invalid_request_error", "invalid_api_key")),
    ],
)
def test_a_key_is_needed(service, headers, expected):
    url = f"{service.base_url}/chat/completions"
    response = httpx.post(url, json={"model": "m", "messages": HELLO}, headers=headers, trust_env=False)
    assert error_of(response) == expected


def test_the_key_may_come_as_azure_sends_it(service):
    url = f"{service.base_url}/chat/completions"
    response = httpx.post(
        url, json={"model": "m", "messages": HELLO}, headers={"api-key": "k"}, trust_env=False
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"model": "m", "messages": "\xff"}',
        b'{"model": "m", "messages": NaN}',
        b"[" * 100_000,
        b"{}",
        b'{"model": 7, "messages": []}',
        b'{"model": "m"}',
        b'{"model": "m", "messages": null}',
        b'{"model": "m", "messages": []}',
        b'{"model": "m", "messages": {}}',
        b'{"model": "m", "messages": ["hello"]}',
        b'{"model": "m", "messages": [{"content": "no role"}]}',
        b'{"model": "m", "messages": [{"role": "robot", "content": "x"}]}',
        b'{"model": "m", "messages": [{"role": "user"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": 7}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": ["x"]}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}',
        b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]}',
    ],
)
def test_a_bad_body_is_a_400(client, body):
    response = client.post("/chat/completions", content=body)
    assert error_of(response)[:2] == (400, "invalid_request_error")


def test_the_refusal_of_streams_says_so(client):
    response = chat(client, stream=True)
    assert "does not stream" in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "stream"


def test_an_unknown_model(client):
    expected = (404, "invalid_request_error", "model_not_found")
    assert error_of(chat(client, model="gone")) == expected
    assert error_of(client.post("/embeddings", json={"model": "gone", "input": "x"})) == expected


def test_the_list_of_models(client):
    body = client.get("/models").json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["test-model"]


def test_routes_that_are_not_there(client):
    assert error_of(client.post("/responses", json={})) == (404, "invalid_request_error", "unknown_url")
    assert error_of(client.get("/chat/completions"))[0] == 405
    assert error_of(client.post("/models"))[0] == 405


def test_embeddings_are_unit_vectors_of_their_text(client):
    body = client.post("/embeddings", json={"model": "m", "input": ["one", "two", "one"]}).json()
    vectors = [item["embedding"] for item in body["data"]]
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert vectors[0] == vectors[2] != vectors[1]
    assert vectors[0] == embedding("one").tolist()
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-6) for vector in vectors)
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] == 3


def test_embeddings_in_base64_with_dimensions(client):
    ask = {"model": "m", "input": "one", "dimensions": 32, "encoding_format": "base64"}
    body = client.post("/embeddings", json=ask).json()
    raw = base64.b64decode(body["data"][0]["embedding"])
    assert raw == array.array("f", embedding("one", 32)).tobytes()
    assert len(raw) == 4 * 32


@pytest.mark.parametrize(("given", "count"), [("x", 1), (["x", "y"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2)])
def test_all_forms_of_input(client, given, count):
    body = client.post("/embeddings", json={"model": "m", "input": given}).json()
    assert len(body["data"]) == count


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m"},
        {"input": "x"},
        {"model": "m", "input": ""},
        {"model": "m", "input": []},
        {"model": "m", "input": ["x", ""]},
        {"model": "m", "input": ["x", 1]},
        {"model": "m", "input": {"x": 1}},
        {"model": "m", "input": ["x"] * 2049},
        {"model": "m", "input": "x", "dimensions": 0},
        {"model": "m", "input": "x", "dimensions": True},
        {"model": "m", "input": "x", "dimensions": 4000},
        {"model": "m", "input": "x", "encoding_format": "hex"},
    ],
)
def test_bad_embeddings_are_a_400(client, body):
    assert error_of(client.post("/embeddings", json=body))[0] == 400


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert content_digest({"b": [1, 2.5], "a": "é"}) == content_digest({"a": "é", "b": [1, 2.5]})
    assert content_digest({"a": "é"}) == hashlib.sha256('{"a":"é"}'.encode()).hexdigest()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"model": _json, "messages": st.lists(st.fixed_dictionaries({"role": _json, "content": _json}))}
    )
    | st.binary()
)
def test_whatever_comes_is_a_call_or_a_400(body):
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    status = None
    try:
        assert parse_chat(raw).model
    except ApiError as refused:
        status = refused.status
    assert status in (None, 400)
