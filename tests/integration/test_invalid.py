"""-retry -only invalid and -only missing, and output.schema, over a real daemon."""

import json

import pytest

from batch_kit import batch_config
from harness import Outputs, Shell, prompts, service_config, wait_for

GOOD = {"contains": "", "do": 'say:{"ok": true}'}
SCHEMA = '{"type": "object", "required": ["ok"]}'
CUT = {"contains": "q 3:", "do": "cut", "below": 128}


def spoiled():
    """Answers 3, 7 and 9 are cut off, empty, and not what the schema wants."""
    return [CUT, {"contains": "q 7:", "do": "empty"}, {"contains": "q 9:", "do": "say:no JSON"}, GOOD]


def run_task(shell, service, count=20, code=0, **config):
    shell.config(**({"model": service_config(service), "lines_per_chunk": 5} | config))
    prompts(shell.workspace / "in.jsonl", count)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=code)
    return Outputs(shell.workspace, "A")


def by_id(out):
    return {line["custom_id"]: line["response"]["body"]["choices"][0] for line in out.output}


def whats(shell, *args, code):
    (result,) = shell.json("-validate", "A", *args, code=code)["results"]
    return {finding["what"]: finding["lines"] for finding in result["findings"]}


def test_answers_that_fail_are_asked_for_again(shell, service):
    """Empty, cut off, against the schema; an error beside them stays, and what was good is not touched."""
    schema = shell.workspace / "schema.json"
    schema.write_text(SCHEMA)
    service.control(spoil=spoiled(), rules=[{"contains": "q 11:", "do": "400"}])
    first = run_task(shell, service, code=1, output={"schema": "schema.json"})
    schema.write_text('{"type": "array"}')  # it is the task's own by now
    assert whats(shell, code=1) == {"cut": [4], "empty": [8], "schema": [4, 10]}
    assert whats(shell, "-schema", "schema.json", code=1)["schema"] == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11]

    service.control(spoil=[CUT, GOOD])
    done = shell.run("-retry", "A", "-only", "invalid", "-wait", code=1)
    for words in (
        "round 1: 3 records are tried again",
        "1 answer had ended at the limit of tokens",
        "1 answer was empty",
        "1 answer did not follow the schema",
        "max_tokens is 64, as it was",
    ):
        assert words in done.stderr
    second = Outputs(shell.workspace, "A", round=1)
    second.check_identity(20)
    assert second.ids == first.ids
    assert second.errors == first.errors
    assert second.report["taken_back"] == 3
    again = {"q-3", "q-7", "q-9"}
    for old, new in zip(first.output, second.output, strict=True):
        assert (old == new) == (old["custom_id"] not in again)
    choices = by_id(second)
    assert choices["q-3"]["finish_reason"] == "length", "it was allowed no more"
    assert choices["q-7"]["message"]["content"] == '{"ok": true}'
    assert service.summary().billed == 22
    paid = [(row.billed_in or 0, row.billed_out or 0) for row in service.ledger()]
    tokens = second.report["tokens"]
    assert [tokens["input"], tokens["output"]] == [sum(part) for part in zip(*paid, strict=True)]
    assert shell.status("A")["tokens"] == tokens, "what was taken back stays paid for"

    config = {"model": service_config(service, max_tokens=256), "lines_per_chunk": 5}
    shell.config("more.yaml", **config)
    shell.config("other.yaml", **(config | {"lines_per_chunk": 6}))
    told = shell.run("-retry", "A", "-only", "invalid", "-config", "other.yaml", code=3)
    assert "a different task" in told.stderr
    done = shell.run("-retry", "A", "-only", "invalid", "-config", "more.yaml", "-wait", code=1)
    assert "1 record is tried again" in done.stderr
    assert "as it was" not in done.stderr
    third = Outputs(shell.workspace, "A", round=2)
    third.check_identity(20)
    assert by_id(third)["q-3"] == by_id(second)["q-7"]
    assert whats(shell, code=0) == {}
    assert "no invalid answers" in shell.run("-retry", "A", "-only", "invalid").stderr
    assert service.summary().billed == 23


def test_in_batches_and_with_rows(shell, service):
    service.control(spoil=spoiled())
    run_task(shell, service, **batch_config(service))
    (shell.workspace / "rows").write_text("3\nq-7\nq-8\n")
    service.control(spoil=[GOOD], rules=[{"contains": "q 7:", "do": "400"}])
    done = shell.run("-retry", "A", "-only", "invalid", "-rows", "rows", "-wait", code=1)
    assert "2 records are tried again" in done.stderr
    assert "1 entries of rows name no such record" in done.stderr
    out = Outputs(shell.workspace, "A", round=1)
    out.check_identity(20)
    assert [line["custom_id"] for line in out.errors] == ["q-7"], "its answer does not come back"
    assert by_id(out)["q-3"]["finish_reason"] == "stop"
    assert (out.report["taken_back"], out.report["paths"]) == (2, {"batch": 19})
    service.control(rules=[])
    shell.run("-retry", "A", "-wait")
    Outputs(shell.workspace, "A", round=2).check_identity(20)
    assert shell.json("-validate", "A")["ok"] is True


@pytest.mark.parametrize(
    "point", ["retry.carried_beside=exit", "retry.carried_one=exit@2", "retry.carried_all=exit"]
)
def test_a_kill_while_answers_are_taken_back(workspace, service, point):
    fired = workspace / "fired"
    fired.mkdir()
    shell = Shell(workspace, BATCH_INFER_FAILPOINTS=point, BATCH_INFER_FAILPOINT_DIR=str(fired))
    service.control(spoil=spoiled())
    run_task(shell, service, count=10)
    service.control(spoil=[GOOD])
    shell.run("-retry", "A", "-only", "invalid", "-wait", code=None)
    assert list(fired.iterdir())
    if point.startswith("retry.carried_beside"):  # nothing was opened
        Outputs(workspace, "A").check_identity(10)
        assert shell.status("A")["state"] == "completed"
        shell.run("-retry", "A", "-only", "invalid", "-wait")
    else:
        shell.run("-monitor", "A")
    out = Outputs(workspace, "A", round=1)
    out.check_identity(10)
    assert {choice["finish_reason"] for choice in by_id(out).values()} == {"stop"}
    assert out.report["taken_back"] == 2
    assert service.summary().billed == 12
    assert not list((workspace / "chunks").rglob("*.next"))


def test_a_sick_disk_while_answers_are_taken_back(workspace, service):
    """The round is committed: it is gone on with, and no worker gets a chunk before all is in its place."""
    fired = workspace / "fired"
    fired.mkdir()
    point = "retry.carried_one=raise:5"
    shell = Shell(workspace, BATCH_INFER_FAILPOINTS=point, BATCH_INFER_FAILPOINT_DIR=str(fired))
    service.control(spoil=spoiled())
    run_task(shell, service, count=10)
    service.control(spoil=[GOOD])
    shell.run("-retry", "A", "-only", "invalid", "-wait", code=5)
    status = shell.status("A")
    assert (status["state"], status["reason"], status["counts"]["pending"]) == ("paused", "io", 2)
    assert service.summary().billed == 10
    shell.run("-resume", "A")
    shell.run("-monitor", "A")
    out = Outputs(workspace, "A", round=1)
    out.check_identity(10)
    assert out.report["taken_back"] == service.summary().billed - 10 == 2


def test_a_cancelled_round_leaves_no_hole(shell, service):
    service.control(spoil=spoiled())
    run_task(shell, service, count=10, max_retry_count=100)
    service.control(rules=[{"contains": "q 3:", "do": "500"}], spoil=[GOOD])
    shell.run("-retry", "A", "-only", "invalid")
    wait_for(lambda: shell.status("A")["counts"]["output"] == 9, "one of the two")
    wait_for(lambda: shell.status("A")["retries"], "a try of the other")
    shell.run("-cancel", "A")
    wait_for(lambda: shell.status("A")["state"] == "cancelled", "the end")
    out = Outputs(shell.workspace, "A", round=1)
    out.check_identity(10)
    assert by_id(out)["q-7"]["message"]["content"] == '{"ok": true}'
    assert [line["custom_id"] for line in out.errors] == ["q-3"]


def test_a_schema_that_is_none_is_refused_at_submit(shell, service):
    shell.config(model=service_config(service), output={"schema": "schema.json"})
    prompts(shell.workspace / "in.jsonl", 1)
    line = ("-pipeline", "in.jsonl", "-task-id", "A")
    assert "cannot be read" in shell.run(*line, code=2).stderr
    (shell.workspace / "schema.json").write_text('{"type": 3}')
    assert "no JSON Schema" in shell.run(*line, code=2).stderr
    assert not (shell.workspace / "chunks" / "A").exists()


def test_only_missing_with_records_that_are(shell, service):
    """Batches lose some results for good; only those are asked for again, all or the rows that are named."""
    service.control(batch_missing_rate=0.4, seed=3, rules=[{"contains": "q 5:", "do": "400"}])
    first = run_task(shell, service, count=30, code=1, **batch_config(service, max_retry_count=0))
    first.check_identity(30)
    missing = [json.loads(line)["custom_id"] for line in first.missing]
    assert len(missing) > 3
    assert [line["custom_id"] for line in first.errors] == ["q-5"]
    service.control(batch_missing_rate=0.0, rules=[])

    (shell.workspace / "rows").write_text(f"{missing[0]}\n{missing[2].removeprefix('q-')}\nq-5\n")
    done = shell.run("-retry", "A", "-only", "missing", "-rows", "rows", "-wait", code=1)
    assert "2 records are tried again" in done.stderr
    assert "1 entries of rows name no such record" in done.stderr
    second = Outputs(shell.workspace, "A", round=1)
    second.check_identity(30)
    left = [json.loads(line)["custom_id"] for line in second.missing]
    assert left == [name for name in missing if name not in (missing[0], missing[2])]
    assert second.errors == first.errors

    shell.run("-retry", "A", "-only", "missing", "-wait", code=1)
    third = Outputs(shell.workspace, "A", round=2)
    third.check_identity(30)
    assert third.missing == []
    assert third.errors == first.errors
    assert third.ids == [f"q-{n}" for n in range(30) if n != 5]
