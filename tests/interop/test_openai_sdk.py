"""OpenAI's own SDK as the client of our test service: what it sends is understood, and it understands us."""

import asyncio
import json

import openai
import pytest

from batch_inferd.testing.process import start_service
from harness import wait_for


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("sdk") / "service") as service:
        yield service


@pytest.fixture
def service(running):
    yield running
    running.control(batch_state_hold=None, batch_outcome="completed", batch_error_rate=0, batch_invalid=[])


@pytest.fixture
def client(service):
    with openai.OpenAI(base_url=service.base_url, api_key="sk-x", max_retries=0, timeout=30) as client:
        yield client


def jsonl(count, tag="question"):
    return b"".join(
        json.dumps(
            {
                "custom_id": f"r{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "test-model", "messages": [{"role": "user", "content": f"{tag} {n}"}]},
            }
        ).encode()
        + b"\n"
        for n in range(1, count + 1)
    )


def create(client, file_id, **more):
    return client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


def ended(client, batch_id):
    def look():
        batch = client.batches.retrieve(batch_id)
        return batch if batch.status in ("completed", "failed", "expired", "cancelled") else None

    return wait_for(look, f"the end of {batch_id}")


def test_files(client, tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_bytes(jsonl(3))
    with path.open("rb") as source:
        file = client.files.create(file=source, purpose="batch")
    assert (file.filename, file.bytes, file.purpose) == ("questions.jsonl", path.stat().st_size, "batch")
    assert (file.object, file.status) == ("file", "processed")
    other = client.files.create(file=("other.jsonl", b"{}\n"), purpose="batch")
    assert [f.id for f in client.files.list(limit=1)][:2] == [other.id, file.id]  # it pages by itself
    assert [f.id for f in client.files.list(order="asc", purpose="batch")][-2:] == [file.id, other.id]
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == path.read_bytes()
    copy = tmp_path / "copy.jsonl"
    with client.files.with_streaming_response.content(file.id) as response:
        response.stream_to_file(copy)
    assert copy.read_bytes() == path.read_bytes()
    assert client.files.delete(file.id).deleted is True
    with pytest.raises(openai.NotFoundError) as missing:
        client.files.retrieve(file.id)
    assert missing.value.type == "invalid_request_error"
    assert missing.value.request_id.startswith("req_")


def test_a_batch_and_its_output(client):
    file = client.files.create(file=("in.jsonl", jsonl(5)), purpose="batch")
    batch = create(client, file.id, metadata={"batch_infer_token": "t-sdk"})
    assert batch.object == "batch"
    assert batch.metadata == {"batch_infer_token": "t-sdk"}
    assert batch.input_file_id == file.id
    batch = ended(client, batch.id)
    assert batch.status == "completed"
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (5, 5, 0)
    assert batch.error_file_id is None
    assert batch.errors is None
    lines = [
        json.loads(line) for line in client.files.content(batch.output_file_id).content.split(b"\n")[:-1]
    ]
    assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(1, 6)]
    for line in lines:
        online = client.chat.completions.create(
            model="test-model",
            messages=[{"role": "user", "content": f"question {line['custom_id'][1:]}"}],
        )
        body = line["response"]["body"]
        assert body["choices"][0]["message"]["content"] == online.choices[0].message.content


def test_an_error_file(client, service):
    service.control(batch_error_rate=1)
    file = client.files.create(file=("in.jsonl", jsonl(2)), purpose="batch")
    batch = ended(client, create(client, file.id).id)
    assert (batch.status, batch.output_file_id) == ("completed", None)
    lines = [json.loads(line) for line in client.files.content(batch.error_file_id).iter_lines()]
    assert [line["response"]["status_code"] for line in lines] == [500, 500]


def test_lists_page_by_themselves(client):
    file = client.files.create(file=("in.jsonl", jsonl(1)), purpose="batch")
    ids = [create(client, file.id).id for _ in range(5)]
    listed = [batch.id for batch in client.batches.list(limit=2)]
    assert listed[:5] == ids[::-1]
    assert len(set(listed)) == len(listed)
    page = client.batches.list(limit=2)
    assert page.has_next_page()
    assert [batch.id for batch in page.get_next_page().data] == [ids[2], ids[1]]
    assert [batch.id for batch in client.batches.list(after=ids[1], limit=1).data] == [ids[0]]


def test_cancelling(client, service):
    service.control(batch_state_hold="in_progress")
    file = client.files.create(file=("in.jsonl", jsonl(4)), purpose="batch")
    batch = create(client, file.id)
    wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed == 2, "half of it")
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = ended(client, batch.id)
    assert batch.status == "cancelled"
    assert batch.cancelled_at >= batch.cancelling_at
    assert client.files.content(batch.output_file_id).text.count("\n") == 2
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_a_validation_that_fails(client, service):
    service.control(batch_invalid=["question 2"])
    file = client.files.create(file=("in.jsonl", jsonl(3)), purpose="batch")
    batch = ended(client, create(client, file.id).id)
    assert batch.status == "failed"
    (problem,) = batch.errors.data
    assert (problem.code, problem.line, problem.param) == ("invalid_request", 2, "body.messages")
    assert problem.message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"input_file_id": "file-none"}, "No such File object"),
        ({"endpoint": "/v1/nothing"}, "Supported values"),
        ({"completion_window": "1h"}, "Supported values"),
        ({"metadata": {"x": "x" * 513}}, "at most 64"),
    ],
)
def test_a_create_that_is_refused(client, change, expected):
    file = client.files.create(file=("in.jsonl", jsonl(1)), purpose="batch")
    order = {
        "input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"
    }  # fmt: skip
    with pytest.raises(openai.BadRequestError, match=expected):
        client.batches.create(**order | change)


def test_its_own_prefixes(service):
    base_url = service.base_url.removesuffix("/v1")
    azure = {
        "base_url": f"{base_url}/openai/v1/",
        "api_key": "k",
        "default_query": {"api-version": "preview"},
    }
    with openai.OpenAI(**azure, max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", jsonl(1)), purpose="batch")
        assert ended(client, create(client, file.id).id).status == "completed"
        assert [model.id for model in client.models.list()] == ["test-model"]


async def test_the_asynchronous_client(service):
    async with openai.AsyncOpenAI(base_url=service.base_url, api_key="k", max_retries=0) as client:
        uploads = [client.files.create(file=("in.jsonl", jsonl(2)), purpose="batch") for _ in range(4)]
        files = await asyncio.gather(*uploads)
        batches = await asyncio.gather(*(create(client, file.id) for file in files))
        assert len({batch.id for batch in batches}) == 4
        listed = [batch.id async for batch in client.batches.list(limit=2)]
        assert {batch.id for batch in batches} == set(listed[:4])
