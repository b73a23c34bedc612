"""The main job: submit, follow, outputs; many shells; going on; refusing."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from harness import Outputs, Shell, prompts, service_config, wait_for

ROOT = Path(__file__).resolve().parents[2]


def test_the_examples_run_as_the_readme_says(shell):
    (shell.workspace / "config.yaml").write_bytes((ROOT / "config.yaml.example").read_bytes())
    done = shell.run("-pipeline", str(ROOT / "examples/questions.jsonl"), "-task-id", "demo", "-follow")
    assert "warning" not in done.stderr
    assert "300" in done.stdout + done.stderr
    out = Outputs(shell.workspace, "demo")
    out.check_identity(300)
    assert len(out.output) == 300
    assert out.output[0]["id"].startswith("batch_")
    assert out.output[0]["response"]["status_code"] == 200


def test_twenty_shells_at_the_same_instant(shell, service):
    service.control(latency_ms=[1, 20])
    shell.config(model=service_config(service))
    for n in range(20):
        prompts(shell.workspace / f"in{n}.jsonl", 30 + n, tag=f"task{n}")
    running = [shell.start("-pipeline", f"in{n}.jsonl", "-task-id", f"task_{n}", "-wait") for n in range(20)]
    for process in running:
        out, err = process.communicate(timeout=110)
        assert process.returncode == 0, f"{out}\n{err}\n{shell.log_tail()}"
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    daemons = [command for command in commands if _is_daemon(command, shell.workspace)]
    assert len(daemons) == 1
    (log,) = (shell.workspace / "logs").glob("daemon_*.log")
    assert log.read_text().count(" serves ") == 1, "one daemon, all the time"
    for n in range(20):
        out = Outputs(shell.workspace, f"task_{n}")
        out.check_identity(30 + n)
        assert out.ids == [f"task{n}-{k}" for k in range(30 + n)]
    assert service.summary().billed == sum(30 + n for n in range(20))
    assert {row["state"] for row in shell.json("-list")["tasks"]} == {"completed"}


def _is_daemon(command, workspace):
    return "batch_inferd" in command and str(workspace) in command


def test_an_answer_belongs_to_its_prompt(shell, service):
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 50)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    for n, line in enumerate(Outputs(shell.workspace, "A").output):
        assert f"q {n}:" in line["response"]["body"]["choices"][0]["message"]["content"]


def test_the_same_command_goes_on_and_a_different_one_is_refused(shell, service):
    service.control(latency_ms=2000)
    shell.config(model=service_config(service), execution={"concurrency": 4}, limits={"max_concurrency": 4})
    prompts(shell.workspace / "in.jsonl", 100)
    prompts(shell.workspace / "other.jsonl", 5, tag="other")
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    first = shell.status("A")["uuid"]
    again = shell.json("-pipeline", "in.jsonl", "-task-id", "A")
    assert (again["uuid"], again["went_on"]) == (first, True)
    refused = shell.run("-pipeline", "other.jsonl", "-task-id", "A", code=3)
    assert "already exists" in refused.stderr
    assert "chunks/A" in refused.stderr
    service.control(latency_ms=0)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    Outputs(shell.workspace, "A").check_identity(100)
    assert service.summary().billed == 100
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", code=3)


def test_test_lines_says_how_many_are_left_out(shell, service):
    shell.config(model=service_config(service), test_lines=30)
    prompts(shell.workspace / "in.jsonl", 45)
    done = shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    assert "only the first 30 records" in done.stderr
    assert "15 more are left out" in done.stderr
    out = Outputs(shell.workspace, "A")
    out.check_identity(30)
    assert out.report["left_out"] == 15


def test_pause_resume_cancel(shell, service):
    service.control(latency_ms=100)
    shell.config(model=service_config(service), execution={"concurrency": 2}, limits={"max_concurrency": 2})
    prompts(shell.workspace / "in.jsonl", 400)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] > 4, "some answers")
    shell.run("-pause", "A")
    status = shell.status("A")
    assert (status["state"], status["reason"]) == ("paused", "user")
    wait_for(lambda: shell.status("A")["in_flight"] == 0, "calls in flight to end")
    before = service.summary().requests
    assert shell.run("-monitor", "A", "-once").returncode == 0
    assert service.summary().requests == before
    shell.run("-resume", "A")
    wait_for(lambda: service.summary().requests > before, "calls again")
    shell.run("-cancel", "A")
    wait_for(lambda: shell.status("A")["state"] == "cancelled", "the cancel")
    out = Outputs(shell.workspace, "A")
    counts = out.report["counts"]
    assert out.report["state"] == "cancelled"
    assert counts["input"] == counts["output"] + counts["error"] + counts["missing"]
    assert len(out.missing) == counts["missing"] > 0
    assert len(out.output) == service.summary().billed
    unread = out.report["unread"]
    assert unread["line"] == counts["input"] + 1
    assert shell.run("-monitor", "A", "-once", code=None).returncode in (0, 5)
    shell.run("-resume", "A", code=3)


def test_retry_redoes_what_failed_and_nothing_else(shell, service):
    service.control(rules=[{"contains": "q 7:", "do": "400"}, {"contains": "q 33:", "do": "422"}])
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A")
    out.check_identity(60)
    assert [line["custom_id"] for line in out.errors] == ["q-7", "q-33"]
    assert [line["error"]["line"] for line in out.errors] == [8, 34]
    first = {line["custom_id"]: line for line in out.output}
    service.control(rules=[{"contains": "q 33:", "do": "422"}])
    shell.run("-retry", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A", round=1)
    out.check_identity(60)
    assert [line["custom_id"] for line in out.errors] == ["q-33"]
    assert out.ids == [f"q-{n}" for n in range(60) if n != 33]
    assert all(line == first[line["custom_id"]] for line in out.output if line["custom_id"] in first)
    assert (shell.workspace / "merged/A/error_retry0.jsonl").exists()
    assert service.summary().billed == 59


def test_a_cancelled_retry_leaves_what_was(shell, service):
    service.control(rules=[{"contains": "q 7:", "do": "400"}])
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 40)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    service.control(rules=[{"contains": "q 7:", "do": "hang"}])
    shell.run("-retry", "A")
    wait_for(lambda: shell.status("A")["in_flight"] == 1, "the call that hangs")
    shell.run("-cancel", "A")
    wait_for(lambda: shell.status("A")["state"] == "cancelled", "the cancel")
    out = Outputs(shell.workspace, "A", round=1)
    out.check_identity(40)
    assert [line["custom_id"] for line in out.errors] == ["q-7"]


def test_embeddings_and_batch_lines(shell, service):
    shell.config(model=service_config(service))
    lines = [
        {
            "custom_id": "a",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m2", "messages": [{"role": "user", "content": "hi"}], "temperature": 0},
        },
        {
            "custom_id": "b",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"input": "hello", "dimensions": 4},
        },
    ]
    (shell.workspace / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    out = Outputs(shell.workspace, "A").output
    assert out[0]["response"]["body"]["model"] == "m2"
    assert len(out[1]["response"]["body"]["data"][0]["embedding"]) == 4


def test_two_workspaces_have_a_daemon_each(tmp_path, shell, service):
    other = tmp_path / "other workspace 二"
    other.mkdir()
    there = Shell(other)
    for one in (shell, there):
        one.config(model=service_config(service))
        prompts(one.workspace / "in.jsonl", 5)
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda one: one.run("-pipeline", "in.jsonl", "-task-id", "任务", "-wait"), (shell, there)
            )
        )
    assert shell.beacon()["pid"] != there.beacon()["pid"]
    for one in (shell, there):
        Outputs(one.workspace, "任务").check_identity(5)


def test_files_are_for_their_owner_only(shell, service):
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 5)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    for folder in ("chunks/A", "merged/A", "logs", ".workers"):
        for path in (shell.workspace / folder).rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
    assert (shell.workspace / ".daemon.json").stat().st_mode & 0o777 == 0o600
    for path in shell.workspace.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            assert b"sk-test" not in path.read_bytes(), path
