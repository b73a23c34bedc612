"""Full queues, limits of an account, blocked accounts: a batch waits, and no record pays for it."""

import pytest

from batch_kit import Paid, batch_config, submissions, wait_for_live, waiting_codes
from harness import Outputs, prompts, wait_for

HOUR = 3600

# The service shares the clock with the daemon: its windows pass too.
pytestmark = pytest.mark.usefixtures("clock")


def submit(shell, task_id="A", records=60):
    path = prompts(shell.workspace / f"{task_id}.jsonl", records, tag=task_id)
    shell.run("-pipeline", str(path), "-task-id", task_id)


def completed(shell, task_id="A"):
    return shell.status(task_id)["state"] == "completed"


def check(shell, service, batches=3, records=60):
    out = Outputs(shell.workspace, "A")
    out.check_identity(records)
    assert len(out.output) == records
    assert out.report["attempts"]["retries"] == 0
    paid = Paid(service)
    paid.check_once()
    billed = [batch for batch in paid.batches if batch.state == "completed"]
    assert len(billed) == batches
    assert sorted(paid.billed.values()) == [1] * records


@pytest.mark.parametrize("how", ["state", "400"])
def test_a_full_queue_is_waited_for(shell, service, clock, how):
    if how == "state":
        service.control(batch_outcomes=["token_limit_exceeded"])
    else:
        service.control(reject_create_token_limit=1)
    shell.config(**batch_config(service, max_retry_count=0))
    submit(shell, records=20)

    def full():
        (row,) = submissions(shell, "A") or [{"state": None}]
        return row["waiting"] if row["state"] == "waiting_for_capacity" else None

    waiting = wait_for(full, "the wait")
    assert waiting["code"] == "capacity"
    assert 40 < waiting["next_try"] - waiting["since"] < 100, "minutes, not seconds"
    status = shell.status("A")
    assert status["state"] == "running"
    assert waiting_codes(status) == {"capacity"}
    assert "token limit" in shell.run("-monitor", "A", "-once").stdout
    made = len(Paid(service).batches)
    for _ in range(5):
        shell.status("A")
    assert len(Paid(service).batches) == made, "nothing is tried while the queue is full"
    clock.write_text("120")
    wait_for(lambda: completed(shell), "the end")
    check(shell, service, batches=1, records=20)


def test_the_wait_for_a_full_queue_grows(shell, service, clock):
    service.control(batch_outcome="token_limit_exceeded")
    shell.config(**batch_config(service, limits={"max_batches": 1}))
    submit(shell, records=20)
    waits, ahead = [], 0.0
    for n in range(1, 5):
        wait_for(lambda n=n: len(Paid(service).batches) == n, f"try {n}")

        def entry(n=n):
            rows = submissions(shell, "A")
            waiting = rows[0]["waiting"] or {}
            return waiting if waiting.get("code") == "capacity" and len(waits) == n - 1 else None

        found = wait_for(entry, "the wait")
        waits.append(found["next_try"] - shell.status("A")["waiting"][0]["since"])
        ahead += 1.5 * 60 * 2 ** (n - 1)
        if n == 4:  # the next try is the last one
            service.control(batch_outcome="completed")
        clock.write_text(str(ahead))
    wait_for(lambda: completed(shell), "the end")
    check(shell, service, batches=1, records=20)


def test_batches_in_flight_are_limited(shell, service):
    service.control(max_in_flight_batches=2, batch_latency_s=0.3)
    shell.config(**batch_config(service, lines_per_chunk=10, limits={"max_batches": 2}, max_retry_count=0))
    submit(shell)
    wait_for(lambda: completed(shell), "the end")
    check(shell, service, batches=6)
    assert len(Paid(service).batches) == 6, "none was ever refused"


def test_enqueued_tokens_are_reserved_for_all_tasks_of_the_account(shell, service):
    service.control(max_enqueued_tokens=1000, batch_latency_s=0.3)
    shell.config(**batch_config(service, limits={"enqueued_tokens": 1000}, max_retry_count=0))
    names = ["A", "B", "C"]
    for name in names:
        submit(shell, name)
    for name in names:
        wait_for(lambda name=name: completed(shell, name), "the end")
        Outputs(shell.workspace, name).check_identity(60)
    paid = Paid(service)
    paid.check_once()
    assert {batch.state for batch in paid.batches} == {"completed"}, "none met the service's limit"
    assert len(paid.batches) == 9


def test_a_window_that_ends_is_survived(shell, service, clock):
    """The service's own 24 hours pass: what it finished is kept, the rest goes out again."""
    service.control(batch_latency_s=48 * HOUR)
    shell.config(**batch_config(service, max_retry_count=1))
    submit(shell)
    wait_for_live(shell, "A", 3)
    clock.write_text(str(23 * HOUR))
    wait_for(lambda: Paid(service).billed.total() == 27, "nearly half of the work")
    batches = shell.status("A")["batches"]
    assert HOUR / 2 < batches["left_s"] < HOUR
    service.control(batch_latency_s=0)
    clock.write_text(str(24 * HOUR + 60))
    wait_for(lambda: completed(shell), "the end")
    out = Outputs(shell.workspace, "A")
    out.check_identity(60)
    assert len(out.output) == 60
    assert out.report["attempts"]["classes"].keys() == {"expired"}
    assert 30 <= out.report["attempts"]["retries"] <= 33, "none of what was finished in time"
    paid = Paid(service)
    paid.check_once()
    assert sorted(paid.billed.values()) == [1] * 60


def test_a_revoked_key_pauses_and_the_batches_live_on(shell, service):
    service.control(batch_state_hold="in_progress")
    shell.config(**batch_config(service, max_retry_count=0))
    submit(shell)
    wait_for_live(shell, "A", 3)
    service.control(auth="401", batch_state_hold=None)
    wait_for(lambda: shell.status("A")["reason"] == "auth", "the pause")
    service.control(auth="ok")
    shell.run("-resume", "A")
    wait_for(lambda: completed(shell), "the end")
    check(shell, service)


@pytest.mark.parametrize("credit", ["insufficient_quota", "402"])
def test_without_credit_it_probes_and_goes_on(shell, service, clock, credit):
    service.control(credit=credit)
    shell.config(**batch_config(service, max_retry_count=0))
    submit(shell)
    wait_for(lambda: shell.status("A")["reason"] == "credit", "the pause for credit")
    service.control(credit="ok")
    clock.write_text("100")
    wait_for(lambda: completed(shell), "the end")
    check(shell, service)


def test_a_model_that_is_not_on_the_list_pauses(shell, service):
    service.control(batch_model_whitelist=["other-model"])
    shell.config(**batch_config(service, max_retry_count=0))
    submit(shell)
    wait_for(lambda: shell.status("A")["reason"] == "model", "the pause")
    assert not Paid(service).billed
    service.control(batch_model_whitelist=[])
    shell.run("-resume", "A")
    wait_for(lambda: completed(shell), "the end")
    check(shell, service)
