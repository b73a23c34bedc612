"""What the tests of the service's batches share: a client, input files, and waiting for a state."""

from __future__ import annotations

import json
import ssl
import time
from typing import TYPE_CHECKING, Any, Self

import httpx

from batch_inferd.testing.controls import Controls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batch_inferd.testing.process import RunningService

CHAT = "/v1/chat/completions"
FINAL = ("completed", "failed", "expired", "cancelled")
_BOUND_S = 30.0


def wait_until(condition: Callable[[], Any], what: str = "it") -> Any:
    deadline = time.monotonic() + _BOUND_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.005)
    return found


def request(custom_id: Any, text: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    """A line of an input file."""
    content = {"model": "m", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": content}


def requests(count: int, tag: str = "q", **body: Any) -> list[dict[str, Any]]:
    return [request(f"r{n}", f"{tag} {n}", **body) for n in range(1, count + 1)]


def jsonl(lines: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


class Client:
    """Calls the routes of files and batches."""

    def __init__(self, service: RunningService, prefix: str = "/v1", key: str = "k") -> None:
        self.service = service
        self.http = httpx.Client(
            base_url=service.base_url.removesuffix("/v1") + prefix,
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=30,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # there is no TLS: load no certificates
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def upload(self, data: bytes, name: str = "in.jsonl", **form: str) -> httpx.Response:
        return self.http.post("/files", files={"file": (name, data)}, data={"purpose": "batch"} | form)

    def file(self, lines: Iterable[Any] | bytes, name: str = "in.jsonl") -> str:
        data = lines if isinstance(lines, bytes) else jsonl(lines)
        return self.good(self.upload(data, name))["id"]

    def create(self, file_id: str, endpoint: str = CHAT, **body: Any) -> httpx.Response:
        order = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
        return self.http.post("/batches", json=order | body)

    def batch(self, lines: Iterable[Any] | bytes, endpoint: str = CHAT, **body: Any) -> str:
        """Upload and create; the batch's id."""
        return self.good(self.create(self.file(lines), endpoint, **body))["id"]

    def retrieve(self, batch_id: str) -> dict[str, Any]:
        return self.good(self.http.get(f"/batches/{batch_id}"))

    def cancel(self, batch_id: str) -> dict[str, Any]:
        return self.good(self.http.post(f"/batches/{batch_id}/cancel"))

    def content(self, file_id: str) -> bytes:
        return self.http.get(f"/files/{file_id}/content").raise_for_status().content

    def wait(self, batch_id: str, *states: str) -> dict[str, Any]:
        """Wait for one of the states, by default for a final one."""
        states = states or FINAL

        def look() -> dict[str, Any] | None:
            batch = self.retrieve(batch_id)
            assert batch["status"] in states or batch["status"] not in FINAL, batch
            return batch if batch["status"] in states else None

        found: dict[str, Any] = wait_until(look, f"{batch_id} in {states}")
        return found

    def run(self, lines: Iterable[Any] | bytes, endpoint: str = CHAT, **body: Any) -> Results:
        """A batch from its upload to its end."""
        return Results(self, self.wait(self.batch(lines, endpoint, **body)))

    def results(self, batch_id: str, *states: str) -> Results:
        return Results(self, self.wait(batch_id, *states))

    @staticmethod
    def good(response: httpx.Response) -> dict[str, Any]:
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body


class Results:
    """A batch that has ended, with its files."""

    def __init__(self, client: Client, batch: dict[str, Any]) -> None:
        self.batch = batch
        self.state = batch["status"]
        self.raw = {
            kind: client.content(batch[f"{kind}_file_id"]) if batch[f"{kind}_file_id"] else None
            for kind in ("output", "error")
        }
        self.output = _lines(self.raw["output"])
        self.errors = _lines(self.raw["error"])

    @property
    def problems(self) -> list[tuple[str, int | None, str | None]]:
        """Code, line and param of each entry of `errors.data`."""
        errors = self.batch["errors"]
        assert errors["object"] == "list"
        for entry in errors["data"]:
            assert set(entry) == {"code", "message", "line", "param"}
        return [(entry["code"], entry["line"], entry["param"]) for entry in errors["data"]]

    @property
    def ids(self) -> list[str]:
        return [line["custom_id"] for line in self.output]

    @property
    def error_ids(self) -> list[str]:
        return [line["custom_id"] for line in self.errors]


def _lines(data: bytes | None) -> list[dict[str, Any]]:
    return [] if data is None else [json.loads(line) for line in data.split(b"\n") if line.strip()]


def reset(service: RunningService) -> None:
    """All controls as without any."""
    service.control(**Controls().as_json())


def error_of(response: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, code and param of an error, which has OpenAI's shape."""
    body = response.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")
    return response.status_code, body["error"]["code"], body["error"]["param"]
