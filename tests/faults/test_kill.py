"""kill -9 of the daemon, of a worker, and of both, round after round, in one task."""

import itertools
import json
import os
import random

import psutil
import pytest

from harness import Outputs, kill, paid_again, prompts, service_config, wait_for

ROUNDS = 30
RECORDS = 2000


@pytest.mark.timeout(300)  # thirty restarts, each with calls before it
def test_kill_9(shell, service):
    seed = int(os.environ.get("BATCH_INFER_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"seed {seed}: BATCH_INFER_TEST_SEED={seed} repeats it")
    chance = random.Random(seed)
    service.control(latency_ms=[300, 700])
    shell.config(model=service_config(service), lines_per_chunk=50, execution={"concurrency": 12},
                 limits={"max_concurrency": 16})  # fmt: skip
    prompts(shell.workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")

    pending_kills = 0
    seen_workers: dict[int, psutil.Process] = {}
    for round_number in range(ROUNDS):
        before = service.summary().requests
        # A few calls into the round: the kill lands while records are pending and answers come in.
        wanted = before + chance.randrange(1, 25)
        wait_for(lambda wanted=wanted: service.summary().requests >= wanted or done(shell), "calls")
        workers = shell.workers()
        seen_workers |= {worker.pid: worker for worker in workers}
        pending_kills += not done(shell)
        victim = chance.choice(["daemon", "worker", "both"])
        print(f"round {round_number}: kill {victim}")
        if victim in ("daemon", "both"):
            kill(shell.daemon())
        if victim in ("worker", "both"):
            for worker in workers:
                kill(worker)
        if victim in ("daemon", "both"):
            shell.run("-list")  # any command starts the daemon again, and it goes on
        wait_for(lambda: len(shell.workers()) == 1 or done(shell), "a worker")
        if victim in ("daemon", "both"):  # a new daemon lives beside no worker of an earlier one
            assert not [worker for worker in workers if lives(worker)]
    assert pending_kills >= 25
    service.control(latency_ms=0)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=None, timeout=100)

    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert not paid_again(out.output, service.ledger())
    assert out.report["attempts"]["retries"] == 0
    assert not overlapping(shell.workspace / "chunks/A")
    alive = [worker for worker in seen_workers.values() if lives(worker)]
    assert {worker.pid for worker in alive} <= {worker.pid for worker in shell.workers()}


def lives(process):
    """A zombie has ended: it only waits for its parent, or for init, to take note."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def overlapping(folder):
    """Chunks with journals of two leases that were written at the same time."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for journal in folder.glob("0*/chunk_*.*.jsonl"):
        lines = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1] if line.endswith(b"}")]
        times = [line["t"] for line in lines if line["k"] != "index"]
        if times:
            spans.setdefault(journal.name.split(".")[0], []).append((min(times), max(times)))
    return [
        chunk
        for chunk, found in spans.items()
        for one, two in itertools.pairwise(sorted(found))
        if two[0] < one[1]
    ]


def done(shell) -> bool:
    return (shell.workspace / "merged/A/report.json").exists()
