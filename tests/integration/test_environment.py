"""Whose environment? That of the shell that submits."""

import os

from harness import Outputs, Shell, prompts, service_config


def test_two_shells_with_their_own_key(workspace, service):
    one, two = Shell(workspace, KEY="sk-one"), Shell(workspace, KEY="sk-two")
    one.config(model=service_config(service, password="${KEY}"))
    prompts(workspace / "in1.jsonl", 20, tag="one")
    prompts(workspace / "in2.jsonl", 20, tag="two")
    service.control(latency_ms=100)
    running = [
        one.start("-pipeline", "in1.jsonl", "-task-id", "A", "-wait"),
        two.start("-pipeline", "in2.jsonl", "-task-id", "B", "-wait"),
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    key_of = {row.request_id: row.key_digest for row in service.ledger()}
    keys = [
        {key_of[line["response"]["request_id"]] for line in Outputs(workspace, name).output} for name in "AB"
    ]
    assert [len(found) for found in keys] == [1, 1]
    assert keys[0] != keys[1]
    for path in workspace.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"sk-one" not in data, path
            assert b"sk-two" not in data, path


def test_a_dot_env_beside_the_config(workspace, service):
    shell = Shell(workspace)
    shell.config(model=service_config(service, password="${KEY_OF_DOT_ENV}"))
    prompts(workspace / "in.jsonl", 3)
    missing = shell.run("-pipeline", "in.jsonl", "-task-id", "A", code=2)
    assert "KEY_OF_DOT_ENV" in missing.stderr
    (workspace / ".env").write_text('KEY_OF_DOT_ENV="sk-dot"\n')
    os.chmod(workspace / ".env", 0o644)
    done = shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    assert "can be read by others" in done.stderr
    Outputs(workspace, "A").check_identity(3)


def test_a_config_with_a_password_that_others_can_read(workspace, service):
    shell = Shell(workspace)
    path = shell.config(model=service_config(service))
    prompts(workspace / "in.jsonl", 3)
    os.chmod(path, 0o644)
    done = shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    assert "can be read by others" in done.stderr
    assert f"chmod 600 {path}" in done.stderr


def test_loopback_bypasses_any_proxy(workspace, service):
    dead = "http://127.0.0.1:9"  # the discard port: nothing listens
    shell = Shell(workspace, http_proxy=dead, https_proxy=dead, HTTP_PROXY=dead, all_proxy=dead)
    shell.config(model=service_config(service))
    prompts(workspace / "in.jsonl", 5)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    shell.config("embedded.yaml")
    shell.run("-pipeline", "in.jsonl", "-task-id", "B", "-config", "embedded.yaml", "-wait")
    Outputs(workspace, "A").check_identity(5)
    Outputs(workspace, "B").check_identity(5)
