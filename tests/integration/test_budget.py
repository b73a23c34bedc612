"""Budgets from end to end: the service's own bill never passes them, whatever is killed."""

import json

import pytest

from batch_inferd.testing.billing import Tokenizer
from batch_inferd.testing.chat import answer_text
from batch_kit import batch_config, wait_for_live
from harness import Outputs, kill, service_config, wait_for

RECORDS = 1200
HIDDEN = {"ascii": 0.37, "other": 1.7, "message": 9, "answer": 2.5}  # nobody but the service knows it
PRICES = {"input": 3.0, "output": 12.0, "batch_discount": 0.4, "currency": "EUR"}
MAX_TOKENS = 150  # above every answer of the service by its own rule


def write(path, count=RECORDS):
    """An input of `count` records; returns what the service will bill for all of it."""
    rule, money = Tokenizer(**HIDDEN), 0.0
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            messages = [{"role": "user", "content": f"{n}: " + "how is it? " * (n % 7)}]
            file.write(json.dumps({"messages": messages}) + "\n")
            tokens_in = round(rule.message + rule.count(messages[0]["content"]))
            tokens_out = round(rule.answer * rule.count(answer_text(messages)))
            assert tokens_out <= MAX_TOKENS
            money += (tokens_in * PRICES["input"] + tokens_out * PRICES["output"]) / 1e6
    return money


def billed(service, *, batch=False):
    rows = [row for row in (service.batch_lines() if batch else service.ledger()) if row.billed]
    money = sum(row.billed_in * PRICES["input"] + row.billed_out * PRICES["output"] for row in rows) / 1e6
    return money * (1 - PRICES["batch_discount"]) if batch else money


def configure(shell, service, amount, **changes):
    shell.config(
        model=service_config(service, max_tokens=MAX_TOKENS),
        prices=PRICES,
        budget={"amount": amount, "currency": "EUR"},
        execution={"concurrency": 64} | changes.pop("execution", {}),
        **changes,
    )


def paused(shell):
    """Wait until the task rests for its budget, and its workers have told the last of what they did."""

    def look():
        task = shell.status("A")
        assert task["state"] != "completed", "the budget did not hold"
        at_work = task["backend"] == "online" and task["chunk_states"]["leased"]
        return task if task["state"] == "paused" and not at_work else None

    task = wait_for(look, "the pause")
    assert task["reason"] == "budget", task["reason_text"]
    return task


def check_held(task, service, budget):
    bill = billed(service)
    cost = task["cost"]
    assert bill <= budget
    assert bill <= cost["committed"] + 1e-9
    assert cost["committed"] <= budget == cost["budget"]
    assert bill > 0.6 * budget, "too little of it was used"
    assert task["counts"]["pending"] > 0
    for told in ("EUR", "may cost", "-set A budget="):
        assert told in task["reason_text"]


def test_a_budget_stops_a_run_and_a_raised_one_completes_it(shell, service):
    service.control(tokenizer=HIDDEN, latency_ms=30)
    whole = write(shell.workspace / "in.jsonl")
    budget = round(whole / 2, 6)
    configure(shell, service, budget)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    task = paused(shell)
    check_held(task, service, budget)
    assert max(row.in_flight for row in service.ledger()) > 32
    assert task["cost"]["committed"] == pytest.approx(task["cost"]["spent"], rel=1e-3)
    again = shell.run("-resume", "A", code=None)
    assert again.returncode in (0, 5)
    paused(shell)
    assert billed(service) <= budget
    shell.run("-set", "A", f"budget={2 * whole:.6f}")
    shell.run("-resume", "A")
    shell.run("-monitor", "A", timeout=60)
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert len(out.output) == RECORDS
    assert billed(service) == pytest.approx(whole)
    cost = out.report["cost"]
    assert cost == shell.status("A")["cost"]
    assert cost["spent"] == pytest.approx(whole)
    assert cost["committed"] == pytest.approx(whole, rel=1e-3)


def test_a_budget_of_two_workers_holds_when_all_is_killed(shell, service):
    service.control(tokenizer=HIDDEN, latency_ms=30)
    records = 2000
    whole = write(shell.workspace / "in.jsonl", records)
    budget = round(whole / 2, 6)
    configure(shell, service, budget, execution={"mode": "multiprocessing", "processes": 2})
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: billed(service) > 0.2 * budget, "some answers")
    workers = shell.workers()
    kill(shell.daemon())
    for worker in workers:
        kill(worker)
    at_kill = billed(service)
    assert at_kill < 0.9 * budget
    shell.status("A")  # a new daemon goes on with it, and loses a worker once more
    wait_for(lambda: billed(service) > at_kill, "more answers")
    kill(wait_for(shell.workers, "new workers")[0])
    task = paused(shell)
    check_held(task, service, budget)
    assert task["cost"]["committed"] > task["cost"]["spent"], "what was in flight is counted as spent"
    shell.run("-set", "A", f"budget={3 * whole:.6f}")
    shell.run("-resume", "A")
    shell.run("-monitor", "A", timeout=60)
    Outputs(shell.workspace, "A").check_identity(records)


def test_a_budget_of_batches(shell, service):
    service.control(tokenizer=HIDDEN)
    whole = 0.6 * write(shell.workspace / "in.jsonl", 90)
    budget = round(whole / 2, 6)
    shell.config(
        **batch_config(service, model={"max_tokens": MAX_TOKENS}, prices=PRICES, lines_per_chunk=6),
        budget={"amount": budget, "currency": "EUR"},
    )
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A", 2)
    kill(shell.daemon())
    task = paused(shell)
    bill = billed(service, batch=True)
    assert 0.6 * budget < bill <= budget
    assert task["cost"]["committed"] == pytest.approx(bill)
    shell.run("-set", "A", f"budget={2 * whole:.6f}")
    shell.run("-resume", "A")
    shell.run("-monitor", "A", timeout=60)
    out = Outputs(shell.workspace, "A")
    out.check_identity(90)
    assert out.report["cost"]["committed"] == pytest.approx(whole) == billed(service, batch=True)


def test_a_budget_without_a_price_is_refused(shell, service):
    write(shell.workspace / "in.jsonl", 3)
    words = ("-pipeline", "in.jsonl", "-task-id", "A")
    shell.config(model=service_config(service), budget={"usd": 1})
    assert "write prices: with input and output" in shell.run(*words, code=2).stderr
    shell.config(model=service_config(service), budget={"usd": 1}, prices=PRICES)
    assert "the budget is in USD, the prices are in EUR" in shell.run(*words, code=2).stderr
    prices = {"input": 1.0, "output": 1.0}
    shell.config(**batch_config(service, prices=prices), budget={"usd": 1})
    assert "prices.batch_discount" in shell.run(*words, code=2).stderr
    assert not service.ledger()


def test_what_has_no_bound_is_an_error_and_is_not_sent(shell, service):
    lines = [{"messages": [{"role": "user", "content": "x"}]} for _ in range(3)]
    lines[1]["model"] = "a-dear-one"
    lines[2]["max_tokens"] = None
    (shell.workspace / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    configure(shell, service, 1.0)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A")
    out.check_identity(3)
    told = [line["error"]["message"] for line in out.errors]
    assert "a model of its own" in told[0]
    assert "max_tokens is null" in told[1]
    assert len(service.ledger()) == 1


def test_a_budget_that_comes_later_counts_what_was_spent(shell, service):
    service.control(tokenizer=HIDDEN, latency_ms=80)
    whole = write(shell.workspace / "in.jsonl", 600)
    slow = {"execution": {"concurrency": 4}, "limits": {"max_concurrency": 4}}
    shell.config(model=service_config(service, max_tokens=MAX_TOKENS), prices=PRICES, **slow)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: billed(service) > 0.05 * whole, "some answers")
    shell.run("-set", "A", "budget=5", code=2)
    budget = round(whole / 2, 6)
    configure(shell, service, budget)
    shell.run("-resume", "A", "-config", "config.yaml")
    paused(shell)
    bill = billed(service)
    assert 0.6 * budget < bill <= budget
    configure(shell, service, round(bill / 2, 6))
    assert "paused" in shell.run("-resume", "A", "-config", "config.yaml", code=None).stdout
    assert "is used up" in paused(shell)["reason_text"]
    assert billed(service) == bill
    shell.config(model=service_config(service, max_tokens=MAX_TOKENS), prices=PRICES, budget=None)
    shell.run("-resume", "A", "-config", "config.yaml")
    shell.run("-monitor", "A", timeout=60)
    out = Outputs(shell.workspace, "A")
    out.check_identity(600)
    cost = out.report["cost"]
    assert (cost["budget"], cost["committed"]) == (None, cost["spent"])
