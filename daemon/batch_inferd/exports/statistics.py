"""`json`: the tasks, every result, and what can be said of all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.answers import as_json
from batch_inferd.exports.row import read_row
from batch_inferd.journal.latencies import Latencies
from batch_inferd.merge.index import ANSWER, ERROR, MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_inferd.exports.reading import Exported, Record
    from batch_inferd.exports.row import Row
    from batch_inferd.merge.outputs import OutputFile
    from batch_inferd.merge.tally import Tally

SCHEMA = 1


class _Worker:
    """What one worker did."""

    def __init__(self) -> None:
        self.answered = self.failed = 0
        self.latencies = Latencies()

    def to_json(self, name: str) -> dict[str, Any]:
        total = self.answered + self.failed
        return {
            "worker": name,
            "records": total,
            "answered": self.answered,
            "success_rate": _share(self.answered, total),
            "latency_ms": self.latencies.to_json(),
        }


class Statistics:
    """One JSON object: `tasks`, then `results` with one record a line, then `statistics`."""

    def __init__(self, out: OutputFile, tasks: Sequence[Exported], tally: Tally) -> None:
        """`tally` counts while the tasks are read; it is complete when `finish` is called."""
        self._out = out
        self._tally = tally
        self._counts = {ANSWER: 0, ERROR: 0, MISSING: 0}
        self._total = 0
        self._workers: dict[str, _Worker] = {}
        self._leases: Mapping[str, str] = {}
        self._chunk: tuple[str, int] | None = None
        self._separator = b"\n    "
        listed = [_of_task(task) for task in tasks]
        self._write(f'{{\n  "schema": {SCHEMA},\n  "tasks": {as_json(listed)},\n  "results": [')

    def add(self, task: Exported, chunk: int, record: Record) -> None:
        """The next record."""
        if self._chunk != (task.task_id, chunk):
            self._chunk = (task.task_id, chunk)
            self._leases = task.workers(chunk)
        worker = self._leases.get(record.lease)  # None: a batch brought it, or the daemon ended it
        self._count(record, worker)
        row = read_row(record, task.messages_key)
        self._out.write(self._separator)
        self._write(as_json(_result(task, record, row, worker)))
        self._separator = b",\n    "

    def _count(self, record: Record, worker: str | None) -> None:
        self._total += 1
        if record.kind in self._counts:
            self._counts[record.kind] += 1
        if worker is None:
            return
        found = self._workers.setdefault(worker, _Worker())
        found.answered += record.kind == ANSWER
        found.failed += record.kind != ANSWER
        if record.ms is not None:
            found.latencies.add(record.ms)

    def finish(self) -> None:
        """Write the statistics."""
        tally, answered = self._tally, self._counts[ANSWER]
        statistics = {
            "records": self._total,
            "answered": answered,
            "errors": self._counts[ERROR],
            "missing": self._counts[MISSING],
            "success_rate": _share(answered, self._total),
            "latency_ms": tally.latencies.to_json(),
            "tokens": {
                "input": tally.tokens_in,
                "output": tally.tokens_out,
                "unknown": tally.tokens_unknown,
            },
            "attempts": tally.attempts,
            "retries": tally.retries,
            "failed_attempts": dict(tally.failures.most_common()),
            "per_worker": [self._workers[name].to_json(name) for name in sorted(self._workers)],
        }
        self._write(f'\n  ],\n  "statistics": {as_json(statistics)}\n}}\n')

    def _write(self, text: str) -> None:
        self._out.write(text.encode("utf-8", "replace"))


def _of_task(task: Exported) -> dict[str, Any]:
    counts = task.summary.get("counts", {})
    started, ended = task.summary.get("started"), task.summary.get("ended")
    seconds = round(ended - started, 3) if started is not None and ended is not None else None
    share = _share(counts.get("output", 0), counts.get("input", 0))
    return {"task_id": task.task_id, **task.summary, "seconds": seconds, "success_rate": share}


def _result(task: Exported, record: Record, row: Row, worker: str | None) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "custom_id": row.origin.custom_id,
        "input": row.origin.columns,
        "answer": row.outcome.answer,
        "finish_reason": row.outcome.finish_reason or None,
        "error": {"code": row.outcome.error, "message": row.outcome.message} if row.outcome.error else None,
        "tokens": {"input": record.tokens_in, "output": record.tokens_out},
        "latency_ms": record.ms,
        "attempts": record.attempts,
        "worker": worker,
        "processed_at": record.t or None,
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
