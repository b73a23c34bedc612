"""A task's summary: what `-list`, `-status` and `-monitor` show of it. Its size never grows with the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.batches import rows
from batch_inferd.tasks import states

if TYPE_CHECKING:
    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task


def summary(task: Task) -> dict[str, Any]:
    """The SUMMARY of docs/cli.md."""
    progress, facts = task.progress, task.facts
    counts = progress.counts()
    terminal = counts["output"] + counts["error"] + counts["missing"]
    known = facts.get("spooled_records")
    expected = known or progress.expected(
        task.reading.position.offset, task.pin.size, task.input_complete, task.test_lines
    )
    rate = progress.rate() if task.running else 0.0
    left = max(0, expected - terminal)
    waiting = _waiting(task)
    offline = any(entry["code"] == "network" for entry in waiting)
    guess = task.running and not offline and task.batch is None  # a batch comes all at once, some time
    share = 1.0 if task.state == states.COMPLETED else (terminal / expected if expected else 0.0)
    return {
        "schema": 1,
        "task_id": task.id,
        "state": task.state,
        "reason": task.reason.to_json() if task.reason else None,
        "counts": counts,
        "retries": progress.total("retries"),
        "rate_per_s": round(rate, 2),
        "eta_s": round(left / rate, 1) if rate and left and guess else None,
        "cost": task.money.cost(),
        "backend": task.backend,
        "uuid": task.uuid,
        "round": task.round,
        "created": facts.get("created"),
        "started": facts.get("started"),
        "ended": facts.get("ended"),
        "share": round(min(1.0, share), 4),
        "expected": expected,
        "expected_exact": task.input_complete or known is not None,
        "input_complete": task.input_complete,
        "left_out": int(facts.get("left_out") or 0),
        "left_out_exact": bool(facts.get("left_out_exact", True)),
        "cancelling": task.cancelling,
        "unread": facts.get("unread"),
        "merge_share": round(task.merge_share, 4),
        "chunk_states": dict(progress.chunks),
        "in_flight": progress.total("in_flight"),
        "concurrency": task.context.dispatcher.window(task.account) if task.running else 0,
        "execution": _execution(task),
        "waiting": waiting,
        "batches": rows.batches(task.batch) if task.batch is not None else None,
        "paths": _paths(task, counts["output"]),
        "tokens": {
            "input": progress.total("tokens_in"),
            "cached": progress.total("tokens_cached"),
            "output": progress.total("tokens_out"),
            "unknown": progress.total("tokens_unknown"),
        },
        "bytes": {"read": task.reading.position.offset, "total": task.pin.size},
        "quota": task.context.dispatcher.account(task.account).quota if task.running else {},
        "daemons": task.context.dispatcher.account(task.account).daemons if task.running else 1,
        "identity": facts.get("identity"),
        "outputs": str(task.context.workspace.merged / task.id),
        "input_path": task.input_name,
        "preparing": task.spooling.progress(),
        "model": task.model,
        "service": task.service,
        "log": task.log_path,
    }


def _execution(task: Task) -> dict[str, Any]:
    """How its calls are made, and the limits it sets: as `-set` changes them."""
    config = task.config["config"]
    execution, limits = config["execution"], config["limits"]
    return {
        "mode": execution["mode"],
        "processes": execution["processes"],
        "concurrency": execution["concurrency"],
        "max_concurrency": task.config["max_concurrency"],
        "priority": config["priority"],
        "rpm": limits["rpm"],
        "tpm": limits["tpm"],
        "bytes_in_flight": limits["bytes_in_flight"],
    }


def _paths(task: Task, answered: int) -> dict[str, int]:
    """Answers by the way they came."""
    stored = task.facts.get("paths")
    if task.state in states.ENDED and isinstance(stored, dict):
        return {name: int(stored.get(name, 0)) for name in ("batch", "online")}
    batch = min(answered, task.batch.answered) if task.batch is not None else 0
    return {"batch": batch, "online": answered - batch}


def _waiting(task: Task) -> list[dict[str, Any]]:
    dispatcher = task.context.dispatcher
    found: list[dict[str, Any]] = []
    if task.trouble is not None and task.cancelling:
        found.append(task.trouble.to_json() | {"since": None, "next_try": None})
    if task.batch is not None and task.state not in states.ENDED:
        found += rows.waits(task.batch)
    if task.state == states.CANCELLED and task.facts.get("late"):
        found.append(rows.late_wait(int(task.facts["late"])))
    if not task.running:
        return found
    account = dispatcher.account(task.account).waiting_text(task.context.clock.monotonic())
    if account is not None:
        found.append(account)
    if dispatcher.pool.failed_spawn:
        text = Text("no worker process: {detail}", {"detail": dispatcher.pool.failed_spawn})
        found.append({"code": "worker", "text": text.to_wire(), "since": None, "next_try": None})
    retrying = task.progress.total("waiting")
    if retrying:
        text = Text("{count} records wait for their next try", {"count": retrying})
        found.append({"code": "retry", "text": text.to_wire(), "since": None, "next_try": None})
    return found


def chunk_summary(task: Task, row: ChunkRow) -> dict[str, Any]:
    """One chunk of a status page; a leased one shows what its worker reported last."""
    live: dict[str, int] = {}
    for lease in task.leases.values():
        if lease.row.n == row.n:
            live = task.progress.live(lease.id)
    answered, error, missing, retries = (
        int(live.get(name, getattr(row, name))) for name in ("answered", "error", "missing", "retries")
    )
    return {
        "chunk": row.n,
        "state": row.state,
        "counts": {
            "input": row.records,
            "output": answered,
            "error": error,
            "missing": missing,
            "pending": max(0, row.records - answered - error - missing),
            "blank": row.blank,
        },
        "retries": retries,
        "first_line": row.first_line,
        "in_flight": live.get("in_flight", 0),
        "cost": task.money.of_chunk(row, live),
    }
