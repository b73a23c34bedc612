"""A task.db that cannot be used refuses that task only, keeps a copy, and prints the way out."""

import sqlite3

import pytest

from harness import Outputs, Shell, prompts, service_config


@pytest.mark.parametrize("damage", ["garbage", "truncated", "newer"])
def test_only_that_task_is_refused(shell, service, damage):
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 30)
    for name in ("good", "bad"):
        shell.run("-pipeline", "in.jsonl", "-task-id", name, "-wait")
    shell.run("-daemon", "stop")
    path = shell.workspace / "chunks/bad/task.db"
    data = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"\xff" * len(data))
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 999")
        db.close()
    failed = shell.run("-status", "bad", code=3)
    assert "bad" in failed.stderr
    assert "hint:" in failed.stderr
    in_chinese = Shell(shell.workspace, BATCH_INFER_LANG="zh").run("-status", "bad", code=3).stderr
    assert "错误：" in in_chinese
    if damage == "newer":
        assert "更新的版本" in in_chinese
    if damage != "newer":
        (copy,) = path.parent.glob("task.db.damaged-*")
        assert copy.name in failed.stderr
    assert [row["task_id"] for row in shell.json("-list")["tasks"]] == ["good"]
    shell.run("-pipeline", "in.jsonl", "-task-id", "bad", code=3)  # it is not overwritten
    shell.run("-pipeline", "in.jsonl", "-task-id", "another", "-wait")
    Outputs(shell.workspace, "another").check_identity(30)
