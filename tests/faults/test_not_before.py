"""A retry that waits its time survives kill -9 of the daemon: it is not sent early, and not forgotten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import Outputs, kill, prompts, service_config, wait_for

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = 8
FAILURES = 6  # the wait after these is anything up to 16 s
MINUTE_S = 61.0


class Seen(NamedTuple):
    """By line: the newest attempt that failed, until when it waits, and when it was answered (wall)."""

    attempts: dict[int, int]
    not_before: dict[int, float]
    answered: dict[int, float]


def look(folder: Path) -> Seen:
    seen = Seen({}, {}, {})
    for journal in folder.glob("0*/chunk_*.*.jsonl"):
        for line in journal.read_bytes().split(b"\n")[:-1]:
            entry = json.loads(line)
            if entry["k"] == "answer":
                seen.answered[entry["line"]] = entry["t"]
            elif entry["k"] == "attempt" and entry["attempt"] > seen.attempts.get(entry["line"], 0):
                seen.attempts[entry["line"]] = entry["attempt"]
                seen.not_before[entry["line"]] = entry["not_before"]
    return seen


def test_a_waiting_retry_survives_kill_9(clock, shell, service):
    folder = shell.workspace / "chunks/A"
    service.control(rules=[{"contains": "moody", "do": "500"}])
    shell.config(model=service_config(service), max_retry_count=30)
    prompts(shell.workspace / "moody.jsonl", RECORDS, tag="moody")
    prompts(shell.workspace / "fine.jsonl", 1, tag="fine")
    shell.run("-pipeline", "moody.jsonl", "-task-id", "A")
    ahead = 0.0
    for failures in range(1, FAILURES + 1):
        wait_for(lambda least=failures: _failed(look(folder), least), f"{failures} failures of each")
        ahead += MINUTE_S if failures < FAILURES else 0.0
        clock.with_suffix(".new").write_text(str(ahead))
        clock.with_suffix(".new").replace(clock)
    service.control(rules=[])
    workers = shell.workers()
    kill(shell.daemon())
    for worker in workers:
        worker.wait(20)
    killed = look(folder)

    shell.run("-pipeline", "fine.jsonl", "-task-id", "B", "-wait")  # the next daemon sends what it may
    wait_for(lambda: _taken(shell.status("A")), "the chunk in a worker's hands")
    early = look(folder)
    waiting = set(killed.not_before) - set(killed.answered) - set(early.answered)
    assert waiting
    clock.with_suffix(".new").write_text(str(ahead + MINUTE_S))
    clock.with_suffix(".new").replace(clock)
    shell.run("-monitor", "A")
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert len(out.output) == RECORDS
    final = look(folder)
    for line, moment in killed.not_before.items():
        assert final.answered[line] >= moment, line


def _failed(seen: Seen, least: int) -> bool:
    return len(seen.attempts) == RECORDS and min(seen.attempts.values()) >= least


def _taken(status: dict[str, Any]) -> bool:
    return bool(status["chunk_states"].get("leased")) or status["state"] == "completed"
