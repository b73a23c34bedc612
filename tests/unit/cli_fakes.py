"""What the CLI's tests talk to: summaries, a fake connection, and a console that remembers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batch_infer.cli.app import run
from batch_infer.cli.context import Context
from batch_infer.cli.failures import show
from batch_infer.protocol.errors import BatchInferError, TaskNotFound
from batch_infer.protocol.text import Text
from batch_infer.render.console import Console

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace

NOW = 1_770_000_000.0
HOSTILE = "ba\x1b[2Jtch\n\tid\u202e\ud800\u2028\x9b1m"  # what a service may say


def summary(task_id: str = "demo", **changes: Any) -> dict[str, Any]:
    """A task in the middle of its work."""
    counts = {"input": 300, "output": 120, "error": 3, "missing": 0, "pending": 177, "blank": 2}
    task: dict[str, Any] = {
        "schema": 1,
        "task_id": task_id,
        "state": "running",
        "reason": None,
        "counts": counts | changes.pop("counts", {}),
        "retries": 7,
        "rate_per_s": 35.2,
        "eta_s": 5.0,
        "cost": None,
        "backend": "online",
        "uuid": "u-1",
        "round": 0,
        "created": NOW - 20,
        "started": NOW - 10,
        "ended": None,
        "share": 0.41,
        "input_complete": True,
        "expected": 300,
        "expected_exact": changes.get("input_complete", True),
        "left_out": 0,
        "left_out_exact": True,
        "unread": None,
        "cancelling": False,
        "merge_share": 0.0,
        "chunk_states": {"ready": 0, "leased": 1, "done": 1},
        "in_flight": 64,
        "concurrency": 128,
        "execution": {
            "mode": "multiprocessing",
            "processes": 4,
            "concurrency": 64,
            "max_concurrency": 1024,
            "priority": 1,
            "rpm": None,
            "tpm": None,
            "bytes_in_flight": 64 * 2**20,
        },
        "waiting": [],
        "tokens": {"input": 1200, "output": 3400, "unknown": 0},
        "bytes": {"read": 2048, "total": 4096},
        "quota": {},
        "identity": None,
        "outputs": "/ws/merged/demo",
        "input_path": "/ws/in.jsonl",
        "preparing": None,
        "model": "test-model",
        "service": "http://127.0.0.1:1/v1",
        "log": "/ws/logs/demo_20260202_120000.log",
        "batches": None,
        "paths": {"batch": 0, "online": 120},
    }
    return task | changes


def batch_summary(task_id: str = "demo", **changes: Any) -> dict[str, Any]:
    """A task with batches under way; `batches` changes some of its figures."""
    batches: dict[str, Any] = {
        "live": 12,
        "waiting": 3,
        "collected": 40,
        "states": {"validating": 2, "in_progress": 10},
        "requests": {"total": 5000, "completed": 1200, "failed": 0},
        "enqueued_tokens": 180_000,
        "next_look": NOW + 9,
        "oldest_s": 7_800.0,
        "left_s": 78_600.0,
    }
    base = {
        "backend": "batch",
        "in_flight": 0,
        "concurrency": 0,
        "batches": batches | changes.pop("batches", {}),
        "paths": {"batch": 120, "online": 0},
    }
    return summary(task_id, **(base | changes))


def submission(number: int = 7, **changes: Any) -> dict[str, Any]:
    """A batch that the provider works on."""
    row: dict[str, Any] = {
        "submission": number,
        "batch": f"batch_{number:04}",
        "state": "live",
        "upstream_state": "in_progress",
        "counts": {"total": 500, "completed": 120, "failed": 1},
        "requests": 500,
        "bytes": 350_000,
        "tokens": 15_000,
        "chunks": [3, 4, 5],
        "chunk_count": 3,
        "created": NOW - 7_800,
        "age_s": 7_800.0,
        "expires": NOW + 78_600,
        "left_s": 78_600.0,
        "ended": None,
        "next_look": NOW + 9,
        "waiting": None,
        "results": None,
        "round": 0,
        "url": "/v1/chat/completions",
        "model": "test-model",
    }
    return row | changes


def collected(number: int, **changes: Any) -> dict[str, Any]:
    """A batch whose results are here."""
    results = dict.fromkeys(("retried", "missing", "unknown", "duplicate", "unreadable"), 0)
    ended = {
        "state": "collected",
        "upstream_state": "completed",
        "counts": {"total": 500, "completed": 499, "failed": 1},
        "left_s": None,
        "ended": NOW - 60,
        "next_look": None,
        "results": {"answered": 499, "failed": 1, **results},
    }
    return submission(number, **(ended | changes))


def ended(task_id: str = "demo", **changes: Any) -> dict[str, Any]:
    """A task that completed without errors."""
    counts = {"output": 300, "error": 0, "pending": 0}
    base = {"state": "completed", "share": 1.0, "ended": NOW, "identity": True, "eta_s": None}
    return summary(task_id, counts=counts | changes.pop("counts", {}), **(base | changes))


def reason(code: str, text: str = "because") -> dict[str, Any]:
    return {"code": code, "text": Text("{text}", {"text": text}).to_wire()}


def waits_for(code: str = "capacity", text: str = "the account's queue is full") -> dict[str, Any]:
    """What a batch waits for."""
    return {"code": code, "text": Text(text).to_wire(), "since": NOW - 5, "next_try": NOW + 60}


def squeezed(line: str) -> str:
    """A row of a table with each gap as two spaces."""
    cells = [part.strip() for part in line.split("  ")]
    return "  ".join(part for part in cells if part)


Handler = Callable[[dict[str, Any]], Any]


@dataclass
class FakePeer:
    """Answers by `handlers`; `pushes` are the progress messages, an exception among them is raised."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    pushes: Iterable[Any] = ()
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    closed: bool = False
    told: Iterable[dict[str, Any]] = ()  # what is said while a long request is answered
    patience: dict[str, float] = field(default_factory=dict)

    def call(
        self, method: str, params: dict[str, Any] | None = None, timeout: float = 60.0
    ) -> dict[str, Any]:
        self.patience[method] = timeout
        self.calls.append((method, params or {}))
        result = self.handlers[method](params or {})
        if isinstance(result, BaseException):
            raise result
        return result

    def call_long(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        tell: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        for one in self.told:
            if tell is not None:
                tell(one)
        return self.call(method, params)

    def subscribe(self, tasks: list[str] | None = None) -> Iterable[dict[str, Any]]:
        self.calls.append(("subscribe", {"tasks": tasks}))
        return self._progress()

    def _progress(self) -> Iterable[dict[str, Any]]:
        for push in self.pushes:
            if isinstance(push, BaseException) or (
                isinstance(push, type) and issubclass(push, BaseException)
            ):
                raise push
            yield push if "tasks" in push else {"tasks": [push]}

    def wait_closed(self, timeout: float) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def asked(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.calls if name == method]


def not_there(params: dict[str, Any]) -> BatchInferError:
    return TaskNotFound(
        Text("there is no task {id} in {workspace}", {"id": params["task_id"], "workspace": "/ws"})
    )


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.t = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.t

    def now(self) -> float:
        return NOW + self.t

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.t += seconds


class Cli:
    """Runs command lines against connections given one by one."""

    def __init__(self, workspace: Workspace, peers: list[FakePeer | BaseException], lang: str = "en") -> None:
        self.peers = list(peers)
        self.time = Time()
        self.out = io.StringIO()
        self.err = io.StringIO()
        self.console = Console(self.out, self.err, lang, {})
        self.context = Context(
            workspace,
            self.console,
            environ={},
            start=self._next,
            find=self._next_or_none,
            find_any=self._next_or_none,
            stopped=lambda _: False,
            now=self.time.now,
            monotonic=self.time.monotonic,
            sleep=self.time.sleep,
        )

    def _next(self, _workspace: Workspace, *, with_worker: bool = False) -> Any:
        peer = self.peers.pop(0) if len(self.peers) > 1 else self.peers[0]
        if isinstance(peer, BaseException):
            raise peer
        return peer

    def _next_or_none(self, workspace: Workspace) -> Any:
        return self._next(workspace) if self.peers else None

    def set(self, **changes: Any) -> None:
        self.context = replace(self.context, **changes)

    def __call__(self, *arguments: str) -> int:
        try:
            return run(self.console, arguments, lambda _: self.context)
        except BatchInferError as error:
            return show(self.console, error)

    @property
    def stdout(self) -> str:
        return self.out.getvalue()

    @property
    def stderr(self) -> str:
        return self.err.getvalue()
