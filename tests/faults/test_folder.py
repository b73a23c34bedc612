"""A task is its folder: removing it frees the id, copying it starts nothing."""

import shutil

from harness import Outputs, Shell, prompts, service_config, wait_for


def remove(shell, task_id):
    """As `rm -rf chunks/X merged/X` by hand, again if something was just being made inside."""
    for folder in ("chunks", "merged"):
        path = shell.workspace / folder / task_id
        wait_for(
            lambda path=path: shutil.rmtree(path, ignore_errors=True) or not path.exists(), f"rm -rf {path}"
        )


def test_removing_a_running_task_frees_its_id(shell, service):
    service.control(latency_ms=150)
    shell.config(model=service_config(service), execution={"concurrency": 4}, limits={"max_concurrency": 4})
    prompts(shell.workspace / "in.jsonl", 400)
    shell.run("-pipeline", "in.jsonl", "-task-id", "X")
    wait_for(lambda: shell.status("X")["counts"]["output"] > 3, "some answers")
    first = shell.status("X")["uuid"]
    remove(shell, "X")
    wait_for(lambda: shell.run("-status", "X", code=None).returncode == 3, "the task to be forgotten")
    quiet = wait_until_quiet(service)
    assert not (shell.workspace / "chunks/X").exists()
    assert not (shell.workspace / "merged/X").exists()
    service.control(latency_ms=0)
    shell.run("-pipeline", "in.jsonl", "-task-id", "X", "-wait", timeout=100)
    out = Outputs(shell.workspace, "X")
    out.check_identity(400)
    assert shell.status("X")["uuid"] != first
    assert service.summary().billed >= quiet + 400 - 4


def wait_until_quiet(service):
    seen = [-1, -2, -3]

    def quiet():
        seen.append(service.summary().requests)
        return len(seen) > 40 and len(set(seen[-30:])) == 1

    wait_for(quiet, "the calls to end")
    return service.summary().billed


def test_removing_a_finished_task_frees_its_id(shell, service):
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 30)
    for _ in range(2):
        shell.run("-pipeline", "in.jsonl", "-task-id", "X", "-wait")
        Outputs(shell.workspace, "X").check_identity(30)
        shell.run("-pipeline", "in.jsonl", "-task-id", "X", code=3)
        remove(shell, "X")
        assert shell.run("-status", "X", code=3).stderr.startswith("error:")
    assert shell.json("-list")["tasks"] == []


def test_a_copied_folder_does_not_run_by_itself(shell, service):
    service.control(latency_ms=150)
    shell.config(model=service_config(service), execution={"concurrency": 2}, limits={"max_concurrency": 2})
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "X")
    wait_for(lambda: shell.status("X")["counts"]["output"] > 3, "some answers")
    shell.run("-daemon", "stop")
    shutil.copytree(shell.workspace / "chunks/X", shell.workspace / "chunks/Y")
    status = shell.status("Y")
    assert (status["state"], status["reason"]) == ("paused", "moved")
    service.control(latency_ms=0)
    shell.run("-monitor", "X")
    assert shell.status("Y")["state"] == "paused"
    shell.run("-resume", "Y")
    shell.run("-monitor", "Y")
    for name in "XY":
        Outputs(shell.workspace, name).check_identity(60)


def test_a_moved_workspace_waits_for_a_resume(shell, service, tmp_path):
    service.control(latency_ms=150)
    shell.config(model=service_config(service), execution={"concurrency": 2}, limits={"max_concurrency": 2})
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "X")
    wait_for(lambda: shell.status("X")["counts"]["output"] > 3, "some answers")
    shell.run("-daemon", "stop")
    moved = Shell(tmp_path / "elsewhere")
    shell.workspace.rename(moved.workspace)
    assert moved.status("X")["reason"] == "moved"
    shutil.copy(moved.workspace / "in.jsonl", tmp_path / "in.jsonl")
