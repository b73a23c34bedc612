"""A task's folder with chunks, and the jobs that the daemon orders run on it, without a worker."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
from worker_kit import Folder, make_plan

from batch_inferd.backends.batch import lines
from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.backends.online import Prepared
from batch_inferd.backends.plan import BatchPlan, RequestPlan
from batch_inferd.seams import failpoint
from batch_inferd.seams.clock import SystemClock
from batch_inferd.worker.batch.collect import Collector
from batch_inferd.worker.batch.context import JobContext
from batch_inferd.worker.batch.holed import HoledFile
from batch_inferd.worker.batch.messages import CollectParams, PackParams
from batch_inferd.worker.batch.pack import Packer
from batch_inferd.worker.guard import WriteGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

URL = "http://service/v1"
CHAT = "/v1/chat/completions"


def batch_plan(api: BatchApi | None = None, **changes: Any) -> RequestPlan:
    changes.setdefault("paths", {name: f"/{name}" for name in ("chat", "embeddings", "responses")})
    return make_plan(URL, batch=BatchPlan(api or BatchApi(), "24h", "t"), **changes)


class FakeProvider:
    """Real lines; transfers do what a test plans: a reply, an error, or a coroutine function."""

    encode_line = staticmethod(lines.encode_line)
    decode_line = staticmethod(lines.decode_line)

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.does: dict[str, Callable[..., Any]] = {}
        self.closed = 0

    async def upload(self, file: Any, progress: Any) -> Any:
        self.calls.append(("upload", file))
        return await self.does["upload"](file, progress)

    async def find_upload(self, file: Any) -> Any:
        self.calls.append(("find_upload", file))
        return await self.does["find_upload"](file)

    async def download(self, ref: Any, write: Any, opened: Any) -> Any:
        self.calls.append(("download", ref))
        return await self.does["download"](ref, write, opened)

    async def close(self) -> None:
        self.closed += 1


class Desk:
    """The folder, and what jobs on it did."""

    def __init__(self, root: Path, plan: RequestPlan | None = None) -> None:
        self.folder = Folder(root)
        self.path = self.folder.path
        self.provider = FakeProvider()
        self.stop = threading.Event()
        self.clock = SystemClock()
        self.use(plan or batch_plan())
        self._jobs = 0
        self._submissions = 0

    def use(self, plan: RequestPlan) -> None:
        self.prepared = Prepared(plan)

    def close(self) -> None:
        self.folder.directory.close()

    def add(self, *contents: bytes, end: bytes = b"\n") -> int:
        return self.folder.add(contents, end=end)

    def chunk(self, number: int = 1, **more: Any) -> dict[str, Any]:
        lease = self.folder.lease(number)
        return {name: lease[name] for name in ("chunk", "chunk_file", "first_line", "lines")} | more

    def context(self, job: str | None = None) -> JobContext:
        self._jobs += 1
        return JobContext(
            job or f"job{self._jobs}",
            self.folder.directory,
            self.prepared,
            self.provider,  # type: ignore[arg-type]
            WriteGuard(),
            self.clock,
            self.stop,
        )

    # packing

    def pack_params(self, *chunks: int | dict[str, Any], **params: Any) -> dict[str, Any]:
        rows = [self.chunk(chunk) if isinstance(chunk, int) else chunk for chunk in chunks or (1,)]
        caps = {"max_requests": 50_000, "max_bytes": 190_000_000, "max_line_bytes": 5_700_000}
        return {"round": 0, "prefix": "batches/p", "chunks": rows} | caps | params

    def pack(self, *chunks: int | dict[str, Any], job: str | None = None, **params: Any) -> dict[str, Any]:
        wanted = msgspec.convert(self.pack_params(*chunks, **params), PackParams)
        return Packer(self.context(job), wanted).run()

    def sent(self, pack: dict[str, Any], piece: int = 10_000) -> bytes:
        """A packed file as an upload reads it."""
        if not pack["holed"]:
            return (self.path / pack["file"]).read_bytes()
        with HoledFile(self.context(), pack["file"], pack["bytes"]) as file:
            return b"".join(iter(lambda: file.read(piece), b""))

    def packed(self, pack: dict[str, Any]) -> list[dict[str, Any]]:
        data = self.sent(pack)
        assert len(data) == pack["bytes"]
        assert data.endswith(b"\n")
        found = [json.loads(line) for line in data.split(b"\n")[:-1]]
        assert len(found) == pack["requests"] == len(numbers(pack))
        assert [line["custom_id"] for line in found] == [f"r{number}" for number in numbers(pack)]
        return found

    # collecting

    def results(
        self, *lines: bytes, kind: str = "output", end: bytes = b"\n", newline: bytes = b"\n"
    ) -> dict:
        """A downloaded result file."""
        (self.path / "batches").mkdir(exist_ok=True)
        number = len(list((self.path / "batches").iterdir()))
        name = f"batches/r{number}.jsonl"
        (self.path / name).write_bytes(newline.join(lines) + (end if lines else b""))
        return {"file": name, "kind": kind}

    def collect_params(self, *files: dict[str, Any], **params: Any) -> dict[str, Any]:
        if "submission" not in params:
            self._submissions += 1
            params["submission"] = str(self._submissions)
        if "chunks" not in params:
            chunk = self.chunk()
            params["chunks"] = [chunk | {"ranges": [[1, chunk["lines"]]]}]
        given = {"name": f"batches/s{params['submission']}", "round": 0, "max_retry": 2, "ms": 7000}
        return given | {"files": list(files), "ended": "completed"} | params

    def collect(self, *files: dict[str, Any], job: str | None = None, **params: Any) -> dict[str, Any]:
        wanted = msgspec.convert(self.collect_params(*files, **params), CollectParams)
        return Collector(self.context(job), wanted).run()


def numbers(pack: dict[str, Any]) -> list[int]:
    return [n for ranges in pack["lines"].values() for first, last in ranges for n in range(first, last + 1)]


def answer_body(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    } | more


def result(key: int | str, status: int = 200, body: Any = None, **more: Any) -> bytes:
    """A line of a result file as OpenAI writes it."""
    response = {
        "status_code": status,
        "request_id": f"req-{key}",
        "body": answer_body() if body is None else body,
    }
    custom_id = f"r{key}" if isinstance(key, int) else key
    line = {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None} | more
    return json.dumps(line).encode()


def failed(key: int, code: str, message: str = "", **more: Any) -> bytes:
    """A line without a response."""
    error = {"code": code, "message": message}
    return json.dumps({"id": "b", "custom_id": f"r{key}", "response": None, "error": error} | more).encode()


def refusal(message: str = "no", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "", "code": None} | more}


def fire(monkeypatch: Any, name: str, number: int, hit: int = 0) -> None:
    """Make a failpoint raise."""
    monkeypatch.setattr(failpoint, "_plan", {name: (f"raise:{number}", hit)})
    failpoint._hits.clear()


def sums(found: dict[str, Any]) -> dict[str, int]:
    """The counters of a collect that are not zero."""
    names: Iterable[str] = (
        "answered", "failed", "retried", "missing", "moved", "named", "unknown", "duplicate", "unreadable",
    )  # fmt: skip
    return {name: found[name] for name in names if found[name]}
