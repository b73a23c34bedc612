"""Every step of a batch exits its process once; after the restart nothing is lost, and nothing paid twice."""

import os
import random

import pytest

from batch_inferd.seams.failpoint import FAILPOINTS
from batch_kit import Paid, batch_config, submissions, uploads_left, wait_for_live
from harness import Outputs, Shell, kill, prompts, wait_for

RECORDS = 60
STEPS = {name for name in FAILPOINTS if name.startswith("batch.")} - {"batch.late_opened"}
CANCEL = {name for name in STEPS if name.startswith("batch.cancel_")}
AROUND_CREATE = {name for name in STEPS if name.startswith(("batch.create_", "batch.intent_", "batch.id_"))}
# A list that does not show a new batch yet, and creates that are accepted without an answer.
LAG = {"list_lag_s": 1.0}
RESET = {"accept_then_reset": 1}
ERROR = {"create_5xx": 1}


def cases():
    for name in sorted(STEPS - CANCEL):
        yield pytest.param(name, {}, id=name)
        yield pytest.param(name, LAG | RESET, id=f"{name}-lag-reset")  # different batches meet them
        if name in AROUND_CREATE:
            yield pytest.param(name, ERROR, id=f"{name}-5xx")


def exiting(workspace, tmp_path, name):
    """A shell whose daemon and workers exit once at a failpoint."""
    folder = tmp_path / "fired"
    folder.mkdir()
    return Shell(workspace, BATCH_INFER_FAILPOINTS=f"{name}=exit", BATCH_INFER_FAILPOINT_DIR=str(folder))


def fired(tmp_path, name):
    return (tmp_path / "fired" / f"{name}.fired").exists()


def state(shell):
    """The task's state; None where a daemon that exits does not tell."""
    return shell.json("-status", "A", code=None).get("state")


def check_no_second_batch(shell, service, batches):
    paid = Paid(service)
    paid.check_once()
    assert len(paid.batches) == batches
    known = {row["batch"] for row in submissions(shell, "A")}
    assert known == {batch.id for batch in paid.batches}, "no batch is an orphan"


@pytest.mark.parametrize(("name", "trouble"), list(cases()))
def test_exit_once(workspace, service, tmp_path, name, trouble):
    service.control(rules=[{"contains": "q 3:", "do": "500", "times": 1}], batch_latency_s=0.3, **trouble)
    shell = exiting(workspace, tmp_path, name)
    shell.config(**batch_config(service))
    prompts(workspace / "in.jsonl", RECORDS)

    def ended():
        # A daemon that was made to exit is started again by the next command.
        shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=None)
        return state(shell) == "completed"

    wait_for(ended, "the end")
    assert fired(tmp_path, name), "the failpoint was never met"
    out = Outputs(workspace, "A")
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert out.report["paths"] == {"batch": RECORDS}
    assert out.report["attempts"]["retries"] == 1
    check_no_second_batch(shell, service, batches=4)  # three chunks, and the record that failed once
    assert sorted(Paid(service).billed.values()) == [1] * RECORDS
    wait_for(lambda: not uploads_left(service), "uploads to be deleted")


@pytest.mark.parametrize("name", sorted(CANCEL))
def test_exit_once_in_a_cancel(workspace, service, tmp_path, name):
    service.control(batch_state_hold="in_progress", batch_hold_share=0.5)
    shell = exiting(workspace, tmp_path, name)
    shell.config(**batch_config(service))
    prompts(workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A", 3)
    shell.run("-cancel", "A", code=None)
    wait_for(lambda: fired(tmp_path, name), "the exit")
    wait_for(lambda: state(shell) == "cancelled", "the cancel to be gone on with")
    out = Outputs(workspace, "A")
    out.check_identity(RECORDS)
    paid = Paid(service)
    assert {batch.state for batch in paid.batches} == {"cancelled"}
    assert len(out.output) == paid.billed.total() == RECORDS // 2
    check_no_second_batch(shell, service, batches=3)


ROUNDS = 10
KILLED_RECORDS = 600


@pytest.mark.timeout(300)  # ten restarts, each with batches before it
def test_kill_9(shell, service):
    seed = int(os.environ.get("BATCH_INFER_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"seed {seed}: BATCH_INFER_TEST_SEED={seed} repeats it")
    chance = random.Random(seed)
    failing = [f"q {n}:" for n in range(0, KILLED_RECORDS, 67)]
    endings = ["completed"] * 4 + ["expired", "cancelled"]
    service.control(
        seed=seed, batch_latency_s=[0.2, 1.5], list_lag_s=0.5, batch_shuffle=True, batch_unknown=1,
        batch_outcomes=[chance.choice(endings) for _ in range(20)],
        rules=[{"contains": text, "do": "500", "times": 1} for text in failing],
    )  # fmt: skip
    shell.config(**batch_config(service, limits={"max_batches": 4}, max_retry_count=20))
    prompts(shell.workspace / "in.jsonl", KILLED_RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")

    def done():
        return (shell.workspace / "merged/A/report.json").exists()

    kills = 0
    for round_number in range(ROUNDS):
        wanted = len(Paid(service).batches) + chance.randrange(3)
        wait_for(lambda wanted=wanted: len(Paid(service).batches) >= wanted or done(), "batches")
        # A few milliseconds into whatever comes next: some looks at the ledger long.
        for _ in range(chance.randrange(20)):
            Paid(service)
        if chance.random() < 0.3:
            service.control(accept_then_reset=1)
        kills += not done()
        workers = shell.workers()
        victim = chance.choice(["daemon", "worker", "both"])
        print(f"round {round_number}: kill {victim}")
        if victim in ("daemon", "both"):
            kill(shell.daemon())
        if victim in ("worker", "both"):
            for worker in workers:
                kill(worker)
        if victim in ("daemon", "both"):
            shell.run("-list")
    assert kills >= 5
    service.control(batch_latency_s=0, accept_then_reset=0)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=None, timeout=120)

    out = Outputs(shell.workspace, "A")
    out.check_identity(KILLED_RECORDS)
    assert out.ids == [f"q-{n}" for n in range(KILLED_RECORDS)]
    retries = out.report["attempts"]["retries"]
    assert retries >= len(failing)
    paid = Paid(service)
    paid.check_once()
    assert sorted(paid.billed.values()) == [1] * KILLED_RECORDS
    assert sum(batch.lines for batch in paid.batches) == KILLED_RECORDS + retries, "a kill costs none"
    wait_for(lambda: not uploads_left(service), "uploads to be deleted")
