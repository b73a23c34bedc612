"""Networks and services that go away, refuse, or run out of money: DESIGN's table, from outside."""

import socket
import threading

import pytest

from batch_inferd.testing.process import start_service
from harness import Outputs, Shell, prompts, service_config, wait_for


def waiting_codes(status):
    return {entry["code"] for entry in status["waiting"]}


def test_the_service_goes_away_and_comes_back(shell, tmp_path):
    state = tmp_path / "service"
    first = start_service(state, {"latency_ms": 50})
    shell.config(
        model=service_config(first),
        max_retry_count=0,
        execution={"concurrency": 8},
        limits={"max_concurrency": 8},
    )
    prompts(shell.workspace / "in.jsonl", 200)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] > 10, "some answers")
    first.kill()
    status = wait_for(
        lambda: (s := shell.status("A")) and "network" in waiting_codes(s) and s, "the wait for the network"
    )
    assert status["state"] == "running"
    shown = shell.run("-monitor", "A", "-once").stdout
    assert "the network is down" in shown, shown
    assert str(first.port) in shown
    in_chinese = Shell(shell.workspace, BATCH_INFER_LANG="zh").run("-monitor", "A", "-once").stdout
    assert "网络" in in_chinese
    with start_service(state, port=first.port):
        shell.run("-monitor", "A", timeout=100)
    out = Outputs(shell.workspace, "A")
    out.check_identity(200)
    assert len(out.output) == 200
    assert out.report["attempts"]["retries"] == 0


def test_a_name_that_does_not_resolve_waits(shell):
    shell.config(
        model={"domain": "http://nowhere.invalid/v1", "name": "m", "password": "none", "max_tokens": 8}
    )
    prompts(shell.workspace / "in.jsonl", 3)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: "network" in waiting_codes(shell.status("A")), "the wait for the network")
    shell.run("-cancel", "A")
    wait_for(lambda: shell.status("A")["state"] == "cancelled", "the cancel")
    out = Outputs(shell.workspace, "A")
    assert len(out.missing) == 3
    assert out.missing == (shell.workspace / "in.jsonl").read_bytes().split(b"\n")[:-1]


def test_a_record_that_always_drops_the_connection_ends_as_an_error(shell, service):
    service.control(rules=[{"contains": "q 5:", "do": "drop"}])
    shell.config(model=service_config(service), max_retry_count=2)
    prompts(shell.workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A")
    out.check_identity(20)
    (error,) = out.errors
    assert error["custom_id"] == "q-5"
    assert error["error"]["attempts"] == 3
    assert error["response"] is None


def test_401_pauses_and_a_mended_config_finishes_it(shell, service):
    service.control(bad_keys=["sk-wrong"])
    shell.config(model=service_config(service, password="sk-wrong"))
    shell.config("mended.yaml", model=service_config(service, password="sk-right"))
    prompts(shell.workspace / "in.jsonl", 60)
    ended = shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=5)
    assert "401" in ended.stderr
    status = shell.status("A")
    assert (status["state"], status["reason"]) == ("paused", "auth")
    assert "sk-wrong" not in shell.log_tail()
    shell.run("-resume", "A", "-config", "mended.yaml")
    shell.run("-monitor", "A", timeout=60)
    Outputs(shell.workspace, "A").check_identity(60)
    assert service.summary().billed == 60


def test_resume_with_a_different_task_is_refused(shell, service):
    service.control(auth="401")
    shell.config(model=service_config(service))
    shell.config("other.yaml", model=service_config(service, name="another-model"))
    prompts(shell.workspace / "in.jsonl", 5)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=5)
    assert "different task" in shell.run("-resume", "A", "-config", "other.yaml", code=3).stderr


@pytest.mark.parametrize("credit", ["insufficient_quota", "402"])
def test_credit_errors_probe_and_go_on(tmp_path, workspace, service, credit):
    clock = tmp_path / "clock"
    clock.write_text("0")
    shell = Shell(workspace, BATCH_INFER_CLOCK_FILE=str(clock))
    service.control(credit=credit)
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["reason"] == "credit", "the pause for credit")
    before = service.summary().requests
    clock.write_text("31")
    wait_for(lambda: service.summary().requests > before, "a probe")
    wait_for(lambda: shell.status("A")["reason"] == "credit", "the second pause")
    assert service.summary().requests - before < 5, "a probe is one call at a time"
    service.control(credit="ok")
    clock.write_text("200")
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    out = Outputs(shell.workspace, "A")
    out.check_identity(60)
    assert out.report["attempts"]["retries"] == 0


def test_an_unknown_model_pauses_only_the_tasks_that_name_it(shell, service):
    service.control(unknown_models=["gone"], latency_ms=20)
    shell.config(model=service_config(service), execution={"concurrency": 4})
    shell.config("gone.yaml", model=service_config(service, name="gone"))
    prompts(shell.workspace / "in.jsonl", 80)
    shell.run("-pipeline", "in.jsonl", "-task-id", "good")
    shell.run("-pipeline", "in.jsonl", "-task-id", "bad", "-config", "gone.yaml", "-wait", code=5)
    assert shell.status("bad")["reason"] == "model"
    shell.run("-monitor", "good")
    Outputs(shell.workspace, "good").check_identity(80)


def test_a_429_storm_uses_up_no_retry(shell, service):
    service.control(storm_429=150, retry_after="0.1")
    shell.config(model=service_config(service), max_retry_count=0)
    prompts(shell.workspace / "in.jsonl", 100)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=100)
    out = Outputs(shell.workspace, "A")
    out.check_identity(100)
    assert len(out.output) == 100


def test_cancel_is_quick_although_a_call_hangs(shell, service):
    service.control(rules=[{"contains": "q 3:", "do": "hang"}])
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] == 19, "the others")
    shell.run("-cancel", "A")
    wait_for(lambda: shell.status("A")["state"] == "cancelled", "the cancel", bound=30)
    assert len(Outputs(shell.workspace, "A").missing) == 1


def test_a_half_open_service_times_out_and_is_an_error(shell):
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []
        threading.Thread(
            target=lambda: [held.append(server.accept()) for _ in range(50)], daemon=True
        ).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        shell.config(
            model={"domain": url, "name": "m", "password": "none", "max_tokens": 8},
            max_retry_count=0,
            execution={"timeout": {"connect": 1, "read": 1, "total": 1}},
        )
        prompts(shell.workspace / "in.jsonl", 2)
        shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
        assert {line["error"]["code"] for line in Outputs(shell.workspace, "A").errors} == {"timeout"}
