"""How a task of batches ends otherwise: cancelled, with what was paid for; and stragglers that go online."""

import pytest

from batch_kit import Paid, batch_config, submissions, wait_for_live, waiting_codes
from harness import Outputs, prompts, wait_for

HOUR = 3600

# The service shares the clock with the daemon: its windows pass too.
pytestmark = pytest.mark.usefixtures("clock")


def outputs(shell):
    return Outputs(shell.workspace, "A")


def cancelled(shell):
    return shell.status("A")["state"] == "cancelled"


def test_a_cancel_keeps_what_was_paid_for(shell, service):
    service.control(batch_state_hold="in_progress", batch_hold_share=0.5)
    shell.config(**batch_config(service))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A", 3)
    shell.run("-cancel", "A")
    wait_for(lambda: cancelled(shell), "the cancel")
    out = outputs(shell)
    out.check_identity(60)
    paid = Paid(service)
    assert {batch.state for batch in paid.batches} == {"cancelled"}
    assert len(out.output) == paid.billed.total() == 30
    assert len(out.missing) == 30
    assert out.report["state"] == "cancelled"
    assert out.report["attempts"]["retries"] == 0
    shell.run("-resume", "A", code=3)


def test_a_cancel_before_anything_is_submitted(shell, service):
    service.control(batch_state_hold="in_progress")
    shell.config(**batch_config(service, limits={"max_batches": 1}))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A")
    wait_for(lambda: "capacity" in waiting_codes(shell.status("A")), "the others to wait")
    shell.run("-cancel", "A")
    wait_for(lambda: cancelled(shell), "the cancel")
    outputs(shell).check_identity(60)
    assert len(Paid(service).batches) == 1
    service.control(batch_state_hold=None)
    shell.run("-daemon", "stop")
    shell.run("-list")
    assert len(Paid(service).batches) == 1, "what was never submitted is not submitted later"


def test_a_cancelled_batch_that_ends_later_is_collected_on_the_next_start(shell, service, clock):
    service.control(batch_state_hold="cancelling", batch_cancel_s=2 * HOUR, batch_latency_s=10 * HOUR)
    shell.config(**batch_config(service, batch={"cancel_wait": "30m"}))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A", 3)
    clock.write_text(str(5 * HOUR))
    wait_for(lambda: shell.status("A")["batches"]["requests"]["completed"] > 10, "half of the work")
    shell.run("-cancel", "A")
    status = wait_for(lambda: (s := shell.status("A"))["cancelling"] and s, "the cancel to be under way")
    assert status["state"] != "cancelled"
    wait_for(lambda: "cancel" in waiting_codes(shell.status("A")), "the wait for the last state")
    clock.write_text(str(5 * HOUR + 1900))
    wait_for(lambda: cancelled(shell), "the bound of the wait")
    out = outputs(shell)
    out.check_identity(60)
    assert len(out.missing) == 60
    shell.run("-daemon", "stop")
    service.control(batch_state_hold=None)
    clock.write_text(str(9 * HOUR))
    shell.run("-list")
    wait_for(lambda: all(batch.ended for batch in Paid(service).batches), "their end")
    paid = Paid(service).billed.total()
    assert paid > 10
    # Four files are renamed one after the other.
    wait_for(
        lambda: len((o := outputs(shell)).output) == o.report["counts"]["output"] == paid, "late results"
    )
    out = outputs(shell)
    out.check_identity(60)
    assert shell.status("A")["state"] == "cancelled"
    assert {row["state"] for row in submissions(shell, "A")} == {"collected"}


def test_a_batch_past_the_deadline_goes_on_online(shell, service, clock):
    service.control(batch_state_hold="in_progress", batch_hold_share=0.25)
    shell.config(**batch_config(service, batch={"fallback": "online", "deadline": "20h"}))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A", 3)
    clock.write_text(str(19 * HOUR))
    for _ in range(5):
        assert shell.status("A")["paths"] == {"batch": 0, "online": 0}
    clock.write_text(str(20 * HOUR + 60))
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    out = outputs(shell)
    out.check_identity(60)
    assert out.ids == [f"q-{n}" for n in range(60)]
    assert out.report["paths"] == {"batch": 15, "online": 45}
    assert shell.status("A")["paths"] == {"batch": 15, "online": 45}
    paid = Paid(service)
    assert {batch.state for batch in paid.batches} == {"cancelled"}
    online = {row.content_digest for row in service.ledger() if row.billed}
    assert len(online) == 45
    assert not online & set(paid.billed), "what the batches had finished is not paid for again"


def test_without_a_fallback_nothing_goes_online(shell, service, clock):
    service.control(batch_latency_s=[21 * HOUR, 22 * HOUR])
    shell.config(**batch_config(service))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A", 3)
    clock.write_text(str(23 * HOUR))
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    out = outputs(shell)
    out.check_identity(60)
    assert out.report["paths"] == {"batch": 60}
    assert not [row for row in service.ledger() if row.billed]


def test_used_up_retries_go_online(shell, service):
    service.control(rules=[{"contains": f"q {n}:", "do": "500", "times": 2} for n in (3, 30)])
    shell.config(**batch_config(service, batch={"fallback": "online"}, max_retry_count=1))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    out = outputs(shell)
    out.check_identity(60)
    assert out.report["paths"] == {"batch": 58, "online": 2}
    assert len([row for row in service.ledger() if row.billed]) == 2


def test_a_fallback_does_not_redo_what_is_wrong_with_a_record(shell, service):
    service.control(rules=[{"contains": "q 3:", "do": "400"}])
    shell.config(**batch_config(service, batch={"fallback": "online"}, max_retry_count=1))
    prompts(shell.workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    out = outputs(shell)
    out.check_identity(20)
    assert [line["custom_id"] for line in out.errors] == ["q-3"]
    assert out.report["paths"] == {"batch": 19}


def test_results_that_may_soon_be_removed_are_spoken_of(shell, service, clock):
    """A paused task's batches end without it, and providers keep results for a month."""
    service.control(batch_state_hold="in_progress")
    shell.config(**batch_config(service))
    prompts(shell.workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A")
    shell.run("-pause", "A")
    assert "retention" not in waiting_codes(shell.status("A"))
    clock.write_text(str(26 * 24 * HOUR))
    assert "retention" in waiting_codes(shell.status("A"))
    assert "may be gone at the provider" in shell.run("-monitor", "A", "-once", code=None).stdout
    service.control(batch_state_hold=None)
    shell.run("-resume", "A")
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    outputs(shell).check_identity(20)
    assert "may remove results that are not fetched yet" in shell.run("-logs", "A").stdout
