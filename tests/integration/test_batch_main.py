"""The main job through upstream batches: many shells, what each record gets, pausing, choosing, watching."""

import json

from batch_infer.launch import connect_or_start
from batch_infer.protocol import rpc
from batch_infer.protocol.workspace import Workspace
from batch_kit import Paid, batch_config, submissions, uploads_left, wait_for_live
from harness import Outputs, prompts, wait_for

SHELLS = 20


def run(shell, *args, code=0, timeout=60):
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", *args, "-wait", code=code, timeout=timeout)
    return Outputs(shell.workspace, "A")


def content(line):
    return line["response"]["body"]["choices"][0]["message"]["content"]


def test_twenty_shells_at_the_same_instant(shell, service):
    service.control(batch_latency_s=[0.1, 1.5], batch_shuffle=True)
    shell.config(**batch_config(service))
    sizes = [30 + n for n in range(SHELLS)]
    for n, size in enumerate(sizes):
        prompts(shell.workspace / f"in{n}.jsonl", size, tag=f"task{n}")
    running = [
        shell.start("-pipeline", f"in{n}.jsonl", "-task-id", f"task_{n}", "-wait") for n in range(SHELLS)
    ]
    for process in running:
        out, err = process.communicate(timeout=110)
        assert process.returncode == 0, f"{out}\n{err}\n{shell.log_tail()}"
    used = []
    for n, size in enumerate(sizes):
        out = Outputs(shell.workspace, f"task_{n}")
        out.check_identity(size)
        assert out.ids == [f"task{n}-{k}" for k in range(size)]
        assert all(f"task{n} {k}:" in content(line) for k, line in enumerate(out.output))
        assert out.report["paths"] == {"batch": size}
        rows = submissions(shell, f"task_{n}")
        assert {row["state"] for row in rows} == {"collected"}
        assert sum(row["requests"] for row in rows) == size
        used += [row["batch"] for row in rows]
    paid = Paid(service)
    paid.check_once()
    assert sorted(used) == sorted(batch.id for batch in paid.batches), "each batch is one submission's"
    assert sorted(paid.billed.values()) == [1] * sum(sizes)
    assert not [row for row in service.ledger() if row.path.endswith("/chat/completions")]
    wait_for(lambda: not uploads_left(service), "the uploads to be deleted")


def test_answers_find_their_prompts(shell, service):
    service.control(batch_shuffle=True)
    shell.config(**batch_config(service, lines_per_chunk=7))
    lines = [
        {"messages": [{"role": "user", "content": f"prompt {n}. \u2028 \u0085 你好"}]} for n in range(30)
    ]
    lines[3]["custom_id"] = lines[9]["custom_id"] = "the same"
    lines[4]["custom_id"] = "r1"  # as our own ids look
    lines[5]["custom_id"] = "x" * 300  # longer than any provider takes
    lines[6]["custom_id"] = 'with "quotes" and 中文'
    (shell.workspace / "in.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    )
    out = run(shell)
    out.check_identity(30)
    assert out.ids == [line.get("custom_id", str(n)) for n, line in enumerate(lines, 1)]
    for n, line in enumerate(out.output):
        assert f"prompt {n}." in content(line)
        assert line["id"].startswith("batch_")
        assert line["error"] is None
        assert line["response"]["status_code"] == 200


def test_embeddings_and_lines_with_a_model_of_their_own(shell, service):
    shell.config(**batch_config(service))
    lines = []
    for n in range(4):
        messages = [{"role": "user", "content": f"question {n}"}]
        lines += [
            {"messages": messages},
            {"messages": messages, "model": "m3"},
            {"messages": messages, "enable_thinking": True},
            {
                "custom_id": f"chat-{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "m2", "messages": messages},
            },
            {
                "custom_id": f"embedding-{n}",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"input": f"text {n}", "dimensions": 4},
            },
        ]
    (shell.workspace / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = run(shell)
    out.check_identity(20)
    assert len(out.output) == 20
    models = [line["response"]["body"]["model"] for line in out.output]
    assert models == ["test-model", "m3", "test-model", "m2", "test-model"] * 4
    assert all(len(line["response"]["body"]["data"][0]["embedding"]) == 4 for line in out.output[4::5])
    # One model, endpoint and thinking mode a file.
    found = sorted((row["model"], row["url"], row["requests"]) for row in submissions(shell, "A"))
    chat, embeddings = "/v1/chat/completions", "/v1/embeddings"
    assert found == sorted(
        [
            ("test-model", chat, 4),
            ("test-model", chat, 4),
            ("m2", chat, 4),
            ("m3", chat, 4),
            ("test-model", embeddings, 4),
        ]
    )


def test_lines_that_cannot_be_sent_end_before_anything_is(shell, service):
    shell.config(**batch_config(service, batch={"max_line_bytes": 2000}))
    good = json.dumps({"messages": [{"role": "user", "content": "good"}]})
    big = json.dumps({"messages": [{"role": "user", "content": "b" * 3000}]})
    lines = [good, "{", big, "", '{"prompt": 1}', good]
    (shell.workspace / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))
    out = run(shell, code=1)
    out.check_identity(5)
    assert [line["error"]["line"] for line in out.errors] == [2, 3, 5]
    assert [line["error"]["code"] for line in out.errors] == ["invalid_input", "too_large", "invalid_input"]
    (batch,) = Paid(service).batches
    assert batch.lines == 2


def test_cuts_by_requests_and_bytes(shell, service):
    shell.config(**batch_config(service, lines_per_chunk=100, batch={"max_requests": 30}))
    prompts(shell.workspace / "in.jsonl", 100)
    out = run(shell)
    out.check_identity(100)
    assert sorted(batch.lines for batch in Paid(service).batches) == [10, 30, 30, 30]
    shell.config("bytes.yaml", **batch_config(service, lines_per_chunk=100, batch={"max_bytes": 10_000}))
    prompts(shell.workspace / "more.jsonl", 100, tag="more")
    shell.run("-pipeline", "more.jsonl", "-task-id", "B", "-config", "bytes.yaml", "-wait")
    Outputs(shell.workspace, "B").check_identity(100)
    sizes = [row["bytes"] for row in submissions(shell, "B")]
    assert max(sizes) <= 9_500, "at most 95 % of the cap"
    assert min(sorted(sizes)[1:]) > 9_000, "and full but for the last"


def test_pause_and_resume(shell, service):
    service.control(batch_state_hold="in_progress")
    shell.config(**batch_config(service, limits={"max_batches": 1}))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A")
    shell.run("-pause", "A")
    status = shell.status("A")
    assert (status["state"], status["reason"]) == ("paused", "user")
    service.control(batch_state_hold=None)
    wait_for(lambda: Paid(service).batches[0].ended, "the end of the batch upstream")
    for _ in range(5):
        assert shell.run("-monitor", "A", "-once").returncode == 0
    assert len(Paid(service).batches) == 1, "a paused task submits nothing"
    shell.run("-resume", "A")
    shell.run("-monitor", "A")
    Outputs(shell.workspace, "A").check_identity(60)
    paid = Paid(service)
    paid.check_once()
    assert len(paid.batches) == 3


def test_retry_all_or_some_chunks(shell, service):
    bad = [7, 33, 50]  # one in each chunk
    service.control(rules=[{"contains": f"q {n}:", "do": "400"} for n in bad])
    shell.config(**batch_config(service))
    prompts(shell.workspace / "in.jsonl", 60)
    out = run(shell, code=1)
    out.check_identity(60)
    assert [line["custom_id"] for line in out.errors] == [f"q-{n}" for n in bad]
    first = {line["custom_id"]: line for line in out.output}
    service.control(rules=[])
    assert "4" in shell.run("-retry", "A", "-chunks", "4", code=None).stderr
    shell.run("-retry", "A", "-chunks", "2", "-wait", code=1)
    out = Outputs(shell.workspace, "A", round=1)
    out.check_identity(60)
    assert [line["custom_id"] for line in out.errors] == ["q-7", "q-50"]
    assert len(Paid(service).batches) == 4
    shell.run("-retry", "A", "-chunks", "1,3-3", "-wait")
    out = Outputs(shell.workspace, "A", round=2)
    out.check_identity(60)
    assert out.ids == [f"q-{n}" for n in range(60)]
    assert all(line == first[line["custom_id"]] for line in out.output if line["custom_id"] in first)
    paid = Paid(service)
    paid.check_once()
    assert sum(batch.lines for batch in paid.batches) == 63


def test_status_pages_its_submissions(shell, service):
    shell.config(**batch_config(service, lines_per_chunk=5))
    prompts(shell.workspace / "in.jsonl", 35)
    run(shell)
    status = shell.status("A")
    assert status["batches"]["collected"] == 7
    assert status["paths"] == {"batch": 35, "online": 0}
    rows = status["submissions"]
    assert [row["submission"] for row in rows] == [7, 6, 5, 4, 3, 2, 1]
    for row in rows:
        assert row["batch"] in {batch.id for batch in Paid(service).batches}
        assert (row["state"], row["upstream_state"]) == ("collected", "completed")
        assert row["counts"] == {"total": 5, "completed": 5, "failed": 0}
        assert row["results"]["answered"] == row["requests"] == 5
        assert (row["chunk_count"], len(row["chunks"])) == (1, 1)
        assert row["created"] <= row["ended"]
    assert sorted(row["chunks"][0] for row in rows) == list(range(1, 8))
    connection = connect_or_start(Workspace(shell.workspace))
    pages, cursor = [], None
    while not pages or cursor is not None:
        page = connection.call(rpc.SUBMISSIONS, {"task_id": "A", "cursor": cursor, "limit": 3})
        pages.append([row["submission"] for row in page["rows"]])
        cursor = page["next"]
    connection.close()
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]


def test_the_monitor_shows_each_batch(shell, service):
    service.control(batch_state_hold="in_progress", batch_hold_share=0.5)
    shell.config(**batch_config(service))
    prompts(shell.workspace / "in.jsonl", 40)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    rows = wait_for(
        lambda: [r for r in wait_for_live(shell, "A", 2) if r["counts"]["completed"] == 10], "the counts"
    )
    for row in rows:
        assert row["upstream_state"] == "in_progress"
        assert row["counts"] == {"total": 20, "completed": 10, "failed": 0}
        assert 0 <= row["age_s"] < 600
        assert 23 * 3600 < row["left_s"] <= 24 * 3600
        assert row["next_look"] is not None
    shown = shell.run("-monitor", "A", "-once").stdout
    for row in rows:
        assert row["batch"] in shown
    assert "in_progress" in shown
    assert "10 of 20" in shown
    told = shell.json("-monitor", "A", "-once")
    assert told["batches"]["live"] == 2
    assert told["batches"]["states"] == {"in_progress": 2}
    assert told["batches"]["requests"] == {"total": 40, "completed": 20, "failed": 0}
    service.control(batch_state_hold=None)
    shell.run("-monitor", "A")
    Outputs(shell.workspace, "A").check_identity(40)


def test_auto_takes_batches_where_the_service_is_known_to_have_them(shell, service):
    shell.config(backend="auto")
    prompts(shell.workspace / "in.jsonl", 30)
    told = shell.json("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    assert told["backend"] == "batch"
    Outputs(shell.workspace, "A").check_identity(30)
    assert Outputs(shell.workspace, "A").report["paths"] == {"batch": 30}
    shell.config("elsewhere.yaml", **batch_config(service, backend="auto"))
    told = shell.json("-pipeline", "in.jsonl", "-task-id", "B", "-config", "elsewhere.yaml")
    assert told["backend"] == "online"
    assert "backend: batch" in told["backend_reason"]


def test_leftovers_of_several_chunks_are_pooled(shell, service):
    service.control(
        batch_state_hold="finalizing",
        rules=[{"contains": f"q {n}:", "do": "500", "times": 1} for n in range(3, 60, 10)],
    )
    shell.config(**batch_config(service, lines_per_chunk=10))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A", 6)
    service.control(batch_state_hold=None)
    shell.run("-monitor", "A")
    out = Outputs(shell.workspace, "A")
    out.check_identity(60)
    assert len(out.output) == 60
    assert out.report["attempts"]["retries"] == 6
    paid = Paid(service)
    paid.check_once()
    assert sum(batch.lines for batch in paid.batches) == 66
    assert len(paid.batches) <= 8, "not one for each chunk again"
    assert max(row["chunk_count"] for row in submissions(shell, "A")) > 1
