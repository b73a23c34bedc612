"""Money from end to end: the forecast, the bill, what is unknown, and costs over tasks, models and days."""

import json
import random
import sqlite3
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_kit import batch_config
from harness import Outputs, prompts, service_config, wait_for

RECORDS = 2000
HIDDEN = {"ascii": 0.37, "other": 1.7, "message": 9, "answer": 2.5}  # the estimator knows nothing of it
PRICES = {"input": 3.0, "output": 12.0, "cached_input": 0.75, "batch_discount": 0.4, "currency": "EUR"}
WORDS = ("weather ", "of ", "measurements ", "I ", "数据", "今天的天气", "，", "precipitation; ")


@pytest.fixture
def mixed(shell):
    """An input of records of varying length, English and Chinese mixed."""
    dice = random.Random(7)
    path = shell.workspace / "in.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(RECORDS):
            share = dice.random()
            words = int(dice.lognormvariate(4, 0.9)) + 1
            text = "".join(
                dice.choice(WORDS[:4] if dice.random() < share else WORDS[4:]) for _ in range(words)
            )
            record = {"custom_id": str(n), "metadata": "x" * dice.randint(0, 99)}
            messages = [{"role": "user", "content": f"{n} {text}"}]
            file.write(json.dumps({**record, "messages": messages}, ensure_ascii=n % 2 == 0) + "\n")
    return shell


def bill(service, batch=False):
    """What the service bills: its own ledger, at the prices of the config."""
    rows = [row for row in (service.batch_lines() if batch else service.ledger()) if row.billed]
    tokens = [(row.billed_in, row.billed_out) for row in rows]
    rest = 1 - PRICES["batch_discount"] if batch else 1
    return (
        rest
        * (sum(one[0] for one in tokens) * PRICES["input"] + sum(one[1] for one in tokens) * PRICES["output"])
        / 1e6
    )


def test_after_a_twentieth_of_the_records_the_forecast_is_near_the_bill(mixed, service):
    shell = mixed
    service.control(tokenizer=HIDDEN, latency_ms=40)
    shell.config(
        model=service_config(service), prices=PRICES, lines_per_chunk=50,
        execution={"concurrency": 8}, limits={"max_concurrency": 8},
    )  # fmt: skip
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    least = RECORDS // 20

    def look():
        task = shell.status("A")
        done = task["counts"]["output"] >= least and task["cost"]["forecast"] is not None
        return task if done else None

    seen = wait_for(look, "a twentieth of the records")
    shell.run("-pause", "A")
    paused = shell.status("A")
    assert paused["counts"]["output"] < RECORDS // 5, "the forecast came too late to say anything"
    service.control(latency_ms=0)
    shell.run("-set", "A", "max_concurrency=64", "concurrency=64")
    shell.run("-resume", "A")
    shell.run("-monitor", "A", timeout=90)
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    final = bill(service)
    cost = out.report["cost"]
    assert cost["spent"] == pytest.approx(final)
    assert seen["cost"]["forecast"] == pytest.approx(final, rel=0.1)
    assert seen["cost"]["spent"] < 0.25 * final
    assert (cost["currency"], cost["unknown_records"], cost["forecast"]) == ("EUR", 0, None)
    assert cost["per_record"] == pytest.approx(final / RECORDS)
    assert sum(chunk["cost"] for chunk in out.report["chunks"]) == pytest.approx(final)
    ended = shell.status("A")
    assert ended["cost"] == cost
    assert sum(chunk["cost"] for chunk in ended["chunks"]) == pytest.approx(final)
    assert "EUR" in shell.run("-status", "A").stdout


def test_batches_at_their_price(shell, service):
    service.control(tokenizer=HIDDEN)
    shell.config(**batch_config(service, prices=PRICES))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    report = Outputs(shell.workspace, "A").report
    cost, batches = report["cost"], report["batches"]
    final = bill(service, batch=True)
    assert final > 0
    assert cost["spent"] == cost["batch"] == pytest.approx(final)
    assert cost["online"] == 0
    rows = shell.status("A")["submissions"]
    assert sum(row["cost"] for row in rows) == pytest.approx(final)
    listed = batches["list"]
    assert (len(listed), batches["left_out"], batches["currency"]) == (3, 0, "EUR")
    assert sum(row["cost"] for row in listed) == pytest.approx(final)
    assert [{name: row[name] for name in one} for one, row in zip(listed, rows[::-1], strict=True)] == listed


def test_a_report_that_is_made_again_lists_the_same_batches(shell, service):
    shell.config(**batch_config(service, prices=PRICES))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    path = shell.workspace / "merged/A/report.json"
    was = path.read_bytes()
    path.unlink()
    shell.run("-validate", "A", "-repair")
    assert path.read_bytes() == was


def test_batches_of_unknown_price(shell, service):
    prices = {key: value for key, value in PRICES.items() if key != "batch_discount"}
    shell.config(**batch_config(service, prices=prices))
    prompts(shell.workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    task = shell.status("A")
    assert task["cost"]["spent"] is None
    assert task["tokens"]["input"] > 0
    assert "prices.batch_discount" in shell.run("-status", "A").stdout
    total = shell.json("-cost")["total"]
    assert (total["spent"], total["unpriced_records"]) == ({}, 20)
    (batch,) = Outputs(shell.workspace, "A").report["batches"]["list"]
    assert (batch["cost"], batch["results"]["answered"]) == (None, 20)
    assert batch["results"]["tokens_in"] > 0


@pytest.mark.parametrize("backend", ["online", "batch"])
def test_cached_tokens_and_answers_without_usage(shell, service, backend):
    service.control(cached_share=0.5, no_usage_rate=0.3)
    config = batch_config(service) if backend == "batch" else {"model": service_config(service)}
    shell.config(**config, prices=PRICES)
    prompts(shell.workspace / "in.jsonl", 100)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    out = Outputs(shell.workspace, "A")
    usages = [line["response"]["body"].get("usage") for line in out.output]
    known = [usage for usage in usages if usage]
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in known)
    tokens = out.report["tokens"]
    assert 10 < usages.count(None) < 60
    assert tokens == {
        "input": sum(usage["prompt_tokens"] for usage in known),
        "cached": cached,
        "output": sum(usage["completion_tokens"] for usage in known),
        "unknown": usages.count(None),
    }
    rest = 0.6 if backend == "batch" else 1.0
    money = (tokens["input"] - cached) * 3.0 + cached * 0.75 + tokens["output"] * 12.0
    assert out.report["cost"]["spent"] == pytest.approx(rest * money / 1e6)
    assert out.report["cost"]["unknown_records"] == usages.count(None)
    assert shell.status("A")["cost"] == out.report["cost"]
    assert f"not in it: {usages.count(None)} answers without usage" in shell.run("-status", "A").stdout


def test_costs_by_model_day_task_and_in_total(shell, service):
    prompts(shell.workspace / "in.jsonl", 30)
    for name, model, prices in (
        ("A", "m1", PRICES),
        ("B", "m2", PRICES),
        ("C", "m1", {}),
        ("D", "m1", PRICES | {"currency": "CNY"}),
    ):
        shell.config(model=service_config(service, name=model), prices=prices)
        shell.run("-pipeline", "in.jsonl", "-task-id", name, "-wait")
    costs = shell.json("-cost")
    reports = {name: Outputs(shell.workspace, name).report for name in "ABCD"}
    spent = {name: reports[name]["cost"]["spent"] for name in "ABD"}
    assert costs["total"]["spent"] == {
        "CNY": pytest.approx(spent["D"]), "EUR": pytest.approx(spent["A"] + spent["B"])
    }  # fmt: skip
    assert costs["total"]["unpriced_records"] == 30
    assert {row["model"]: row["answered"] for row in costs["models"]} == {"m1": 90, "m2": 30}
    assert {row["task_id"]: (row["cost"] or {}).get("spent") for row in costs["tasks"]} == spent | {"C": None}
    assert sum(day["answered"] for day in costs["days"]) == 120
    today = time.strftime("%Y-%m-%d")
    assert {day["day"] for day in costs["days"]} <= {
        today,
        time.strftime("%Y-%m-%d", time.localtime(time.time() - 3600)),
    }
    one = shell.json("-cost", "B")
    assert one["total"]["spent"] == {"EUR": spent["B"]}
    told = shell.run("-cost").stdout
    for shown in ("m1", "m2", today, "CNY", "no price is known for 30 answers"):
        assert shown in told
    shell.run("-cost", "nope", code=3)


def test_a_retry_on_another_day_costs_on_that_day(shell, service):
    service.control(rules=[{"contains": "q 1", "do": "400"}])
    shell.config(model=service_config(service), prices=PRICES)
    prompts(shell.workspace / "in.jsonl", 40)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    shell.run("-daemon", "stop")
    first = Outputs(shell.workspace, "A").report["cost"]["spent"]
    with sqlite3.connect(shell.workspace / "chunks/A/task.db") as db:
        db.execute("UPDATE spending SET day = '2020-02-03'")
    db.close()
    service.control(rules=[])
    shell.run("-retry", "A", "-wait")
    final = Outputs(shell.workspace, "A", 1).report["cost"]["spent"]
    days = {day["day"]: day["spent"]["EUR"] for day in shell.json("-cost")["days"]}
    assert len(days) == 2
    assert days.pop("2020-02-03") == pytest.approx(first)
    assert sum(days.values()) == pytest.approx(final - first)


def test_costs_survive_a_kill(shell, service):
    service.control(latency_ms=20)
    shell.config(model=service_config(service), prices=PRICES, execution={"concurrency": 4})
    prompts(shell.workspace / "in.jsonl", 400)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] > 50, "some answers")
    daemon = shell.daemon()
    daemon.kill()
    daemon.wait(10)
    service.control(latency_ms=0)
    shell.run("-monitor", "A", timeout=90)
    out = Outputs(shell.workspace, "A")
    out.check_identity(400)
    total = shell.json("-cost")["total"]
    assert total["spent"]["EUR"] == pytest.approx(out.report["cost"]["spent"])
    assert total["answered"] == 400


def test_without_prices_the_cost_is_unknown(shell, service):
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 5)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    assert shell.status("A")["cost"] is None
    assert Outputs(shell.workspace, "A").report["cost"] is None


def test_an_estimate(mixed, service):
    shell = mixed
    shell.config(model=service_config(service, max_tokens=100), prices=PRICES)
    found = shell.json("-estimate", "in.jsonl")
    assert (found["records"], found["exact"], found["backend"]) == (RECORDS, True, "online")
    assert found["batches"] == 1
    assert found["tokens"]["output"] == found["tokens"]["output_most"] == 100 * RECORDS
    online, batch = found["cost"]["online"], found["cost"]["batch"]
    assert online["input"] == pytest.approx(found["tokens"]["input"] * 3.0 / 1e6)
    assert online["expected"] == pytest.approx(online["input"] + 100 * RECORDS * 12.0 / 1e6)
    assert batch["expected"] == pytest.approx(0.6 * online["expected"])
    assert found["duration_s"]["batch"] == 24 * 3600
    assert not service.ledger(), "an estimate sends nothing"
    assert not list((shell.workspace / "chunks").glob("*/task.db"))
    told = shell.run("-estimate", "in.jsonl")
    assert "EUR" in told.stdout
    assert "guessed" in told.stderr


def test_an_estimate_learns_from_earlier_tasks(mixed, service):
    shell = mixed
    shell.config(model=service_config(service, max_tokens=500), prices=PRICES)
    prompts(shell.workspace / "small.jsonl", 30)
    assert shell.json("-estimate", "in.jsonl")["tokens"]["output_from"] == "assumption"
    shell.run("-pipeline", "small.jsonl", "-task-id", "A", "-wait")
    tokens = Outputs(shell.workspace, "A").report["tokens"]
    found = shell.json("-estimate", "in.jsonl")
    assert found["tokens"]["output_from"] == "earlier tasks"
    assert found["tokens"]["output"] == pytest.approx(tokens["output"] / 30 * RECORDS, rel=0.01)
    assert found["duration_s"]["online"] > 0


def test_an_estimate_of_a_part_and_without_a_price(mixed, service):
    shell = mixed
    shell.config(model=service_config(service), test_lines=100)
    found = shell.json("-estimate", "in.jsonl")
    assert found["records"] == 100
    assert found["cost"] == {"online": None, "batch": None}
    assert any("no price of test-model is known" in note for note in found["notes"])


def test_an_estimate_of_a_table(shell, service):
    shell.config(model=service_config(service), prices=PRICES)
    rows = shell.workspace / "rows.csv"
    rows.write_text("name,colour\n" + "".join(f"thing {n},red\n" for n in range(40)), encoding="gb18030")
    words = ("rows.csv", "-prompt", "What is {name}, which is {colour}?", "-start-row", "10")
    found = shell.json("-estimate", *words)
    assert (found["records"], found["exact"]) == (30, True)
    (shell.workspace / "done.jsonl").write_text('{"id": "12", "answer": "known"}\n')
    assert shell.json("-estimate", *words, "-done", "done.jsonl")["records"] == 29
    shell.run("-pipeline", *words, "-task-id", "A", "-wait")
    billed = Outputs(shell.workspace, "A").report["tokens"]["input"]
    assert found["tokens"]["input"] == pytest.approx(billed, rel=0.5)


def test_an_estimate_of_parquet_and_of_a_pipe(shell, service):
    """The same rows weigh the same, whatever they came in; what was piped in is not kept."""
    shell.config(model=service_config(service), prices=PRICES, input={"format": "csv"})
    names = [f"thing {n}" for n in range(40)]
    rows = "name\n" + "".join(f"{name}\n" for name in names)
    (shell.workspace / "rows.csv").write_text(rows)
    words = ("-prompt", "What is {name}?", "-json")
    of_file = shell.json("-estimate", "rows.csv", *words[:2])
    assert of_file["records"] == 40
    piped = subprocess.run(
        [sys.executable, "-m", "batch_infer", "-estimate", "-", *words],
        input=rows.encode(),
        capture_output=True,
        check=True,
        timeout=60,
        cwd=shell.workspace,
        env=shell.environ,
    )
    assert json.loads(piped.stdout)["tokens"] == of_file["tokens"]
    assert not list((shell.workspace / "chunks").glob(".stdin-*"))
    shell.config(model=service_config(service), prices=PRICES)
    pq.write_table(pa.table({"name": names}), shell.workspace / "rows.parquet")
    found = shell.json("-estimate", "rows.parquet", *words[:2])
    assert (found["records"], found["exact"]) == (40, True)
    assert found["tokens"] == of_file["tokens"]
    assert found["cost"] == of_file["cost"]
    assert not service.ledger()
