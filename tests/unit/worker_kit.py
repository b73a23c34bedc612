"""A worker process driven over its pipe, as the daemon drives it, with a task's folder built by hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

import msgspec

from batch_infer.protocol import frames, rpc
from batch_inferd.backends.plan import RequestPlan, Retry, Timeouts
from batch_inferd.backends.transport import HttpReply, NotSent, Room, Target
from batch_inferd.journal.names import chunk_folder, chunk_name, list_journals
from batch_inferd.journal.reader import read_chunk
from batch_inferd.journal.scan import scan_journal
from batch_inferd.lines import Lines
from batch_inferd.seams.files import Directory
from batch_inferd.worker.fresh import Fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

BOUND_S = 60.0
FAST = Retry(max_count=3, base_s=0.02, cap_s=0.1)


def make_plan(base_url: str, **changes: Any) -> RequestPlan:
    plan = RequestPlan(
        task="uuid-1",
        version=1,
        account="acc-1",
        base_url=base_url,
        paths={
            "chat": "/chat/completions",
            "embeddings": "/embeddings",
            "responses": "/responses",
        },
        query={},
        headers={"Authorization": "Bearer sk-very-secret-key"},
        proxy=None,
        defaults={"chat": {"model": "test-model", "max_tokens": 16}, "embeddings": {"model": "test-model"}},
        messages_key="messages",
        omit=[],
        rename={},
        batch_id="batch_kit",
        credit_codes=["insufficient_quota", "billing_hard_limit_reached"],
        model_codes=[],
        timeouts=Timeouts(connect=5.0, read=20.0, total=30.0),
        retry=FAST,
        max_line_bytes=8 * 1024 * 1024,
        max_response_bytes=8 * 1024 * 1024,
        durability="normal",
    )
    return msgspec.structs.replace(plan, **changes)


def ask(text: str, **fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], **fields}).encode()


def fresh(chunk: Any, first: int, *sizes: int) -> Fresh:
    """Records of lines `first`, `first` + 1 … of a chunk, with these lengths."""
    lines = Lines()
    lines.ends.extend(itertools.accumulate(size + 1 for size in sizes))
    chunk.lease.first_line = first
    return Fresh(chunk, lines, range(len(sizes)))


class Folder:
    """chunks/TASK below a folder, with chunk files as given."""

    def __init__(self, root: Path, task: str = "uuid-1", name: str = "t") -> None:
        self.path = root / "chunks" / name
        self.path.mkdir(parents=True)
        self.directory = Directory(self.path)
        self.task, self.name = task, name
        self._next_line = 1
        self._chunks: dict[int, tuple[int, int]] = {}

    def add(self, lines: Iterable[bytes], *, end: bytes = b"\n") -> int:
        """Write the next chunk file; returns its number."""
        data = b"\n".join(lines) + end
        count = data.count(b"\n") + (not data.endswith(b"\n"))
        chunk = len(self._chunks) + 1
        (self.path / chunk_folder(chunk)).mkdir(exist_ok=True)
        (self.path / chunk_name(chunk)).write_bytes(data)
        self._chunks[chunk] = (self._next_line, count)
        self._next_line += count
        return chunk

    def lease(self, chunk: int = 1, round: int = 0, version: int = 1) -> dict[str, Any]:
        first, count = self._chunks[chunk]
        return {
            "lease": uuid.uuid4().hex[:12],
            "task": self.task,
            "task_id": self.name,
            "chunk": chunk,
            "task_dir": str(self.path),
            "task_dir_id": list(self.directory.identity),
            "chunk_file": chunk_name(chunk),
            "first_line": first,
            "lines": count,
            "round": round,
            "plan_version": version,
        }

    def entries(self, chunk: int = 1) -> list[dict[str, Any]]:
        """Every line of the chunk's journals, parsed; a damaged one fails, a torn end is left out."""
        found = []
        for name in list_journals(self.directory, chunk_folder(chunk)).get(chunk, []):
            fd = os.open(self.path / name, os.O_RDONLY)
            try:
                for scanned in scan_journal(fd):
                    assert scanned.torn or scanned.entry is not None, scanned.fault
                    if not scanned.torn:
                        found.append(json.loads(os.pread(fd, scanned.length, scanned.offset)))
            finally:
                os.close(fd)
        return found

    def kinds(self, chunk: int = 1) -> dict[str, int]:
        counts: dict[str, int] = {}
        for entry in self.entries(chunk):
            counts[entry["k"]] = counts.get(entry["k"], 0) + 1
        return counts

    def records(self, kind: str, chunk: int = 1) -> dict[int, dict[str, Any]]:
        return {entry["line"]: entry for entry in self.entries(chunk) if entry["k"] == kind}

    def state(self, chunk: int = 1, round: int = 0) -> Any:
        return read_chunk(self.directory, chunk, round)


class TestClock:
    """Moves the time of a worker by rewriting its clock file."""

    __test__ = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0.0
        path.write_text("0")

    def advance(self, seconds: float) -> None:
        self.offset += seconds
        temporary = self.path.with_suffix(".new")
        temporary.write_text(str(self.offset))
        temporary.replace(self.path)


class ManualClock:
    """A clock inside one loop: `advance` moves it and wakes who is due."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return 1_760_000_000.0 + self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            future = asyncio.get_running_loop().create_future()
            self._sleepers.append((self.time + seconds, future))
            await future

    async def advance(self, seconds: float) -> None:
        self.time += seconds
        for due, future in tuple(self._sleepers):
            if due <= self.time and not future.done():
                future.set_result(None)
        self._sleepers = [(due, future) for due, future in self._sleepers if not future.done()]
        await settle()


async def settle(rounds: int = 20) -> None:
    """Let everything that can run do so."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class FakeTransport:
    """Probes succeed while `up`; posts are answered by `reply`, or raise it."""

    def __init__(self, reply: HttpReply | Exception | None = None) -> None:
        self.up = True
        self.reply = reply
        self.probes = 0
        self.posts: list[bytes] = []

    async def post(self, target: Target, body: bytes, room: Room | None = None) -> HttpReply:
        self.posts.append(body)
        await asyncio.sleep(0)
        if isinstance(self.reply, Exception):
            raise self.reply
        assert self.reply is not None
        return self.reply

    async def probe(self, base_url: str, proxy: str | None, timeout_s: float) -> None:
        self.probes += 1
        await asyncio.sleep(0)
        if not self.up:
            raise NotSent("refused", "connection refused", "service:80")

    async def close(self) -> None:
        pass


class WorkerDriver:
    """A running worker. As a context manager it is killed at the end."""

    def __init__(self, root: Path, name: str = "w", **environ: str) -> None:
        self.lock = root / f"{name}.lock"
        self.stderr = root / f"{name}.stderr"
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._queue: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "batch_inferd.worker", "--lock", str(self.lock)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | environ,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stdout = self.process.stdout
        assert stdout is not None
        while (message := frames.read_blocking(lambda n: os.read(stdout.fileno(), n))) is not None:
            self._queue.put((message["method"], message["params"]))
        self._queue.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(BOUND_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def send(self, method: str, **params: Any) -> None:
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(frames.encode(rpc.notification(method, params)))
        stdin.flush()

    def plan(self, plan: RequestPlan) -> None:
        self.send("plan", plan=msgspec.to_builtins(plan))

    def account(
        self,
        slots: int = 8,
        rate: float | None = None,
        hold_until: float | None = None,
        account: str = "acc-1",
    ) -> None:
        self.send("account", account=account, slots=slots, rate_per_s=rate, hold_until=hold_until)

    def lease(self, lease: dict[str, Any]) -> str:
        self.send("lease", **lease)
        return str(lease["lease"])

    def begin(self, plan: RequestPlan, lease: dict[str, Any], slots: int = 8) -> str:
        self.plan(plan)
        self.account(slots, account=plan.account)
        return self.lease(lease)

    def next(self, timeout: float = BOUND_S) -> tuple[str, dict[str, Any]] | None:
        try:
            message = self._queue.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no message in {timeout} s; so far {self.tail()}") from None
        if message is not None:
            self.messages.append(message)
        return message

    def wait_for(
        self, method: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True, timeout: float = BOUND_S
    ) -> dict[str, Any]:
        """The next message of a kind that fits; others are kept in `messages`."""
        end = time.monotonic() + timeout
        while True:
            message = self.next(max(0.01, end - time.monotonic()))
            if message is None:
                status = self.process.wait(BOUND_S)
                raise AssertionError(f"the worker ended ({status}) instead of {method}: {self.tail()}")
            if message[0] == method and fits(message[1]):
                return message[1]

    def sealed(self) -> dict[str, Any]:
        return self.wait_for("sealed")

    def all(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.messages if name == method]

    def logs(self) -> list[str]:
        return [record["message"] for params in self.all("log") for record in params["records"]]

    def account_sum(self, name: str, account: str = "acc-1") -> int:
        reports = (params["accounts"].get(account) for params in self.all("report"))
        return sum(seen[name] for seen in reports if seen)

    def tail(self) -> str:
        shown = [(name, str(params)[:300]) for name, params in self.messages[-12:]]
        return f"{shown}\n{self.stderr.read_text(errors='replace')[-3000:]}"

    def close_pipe(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(BOUND_S)

    def wait_end(self, timeout: float = BOUND_S) -> int:
        """Read to the end of the pipe; the exit status."""
        while self.next(timeout) is not None:
            pass
        return self.process.wait(timeout)
