"""A full disk pauses the task and lets it go on; a sick one pauses it until a person resumes."""

import errno
import os
import subprocess

import pytest

from harness import Outputs, Shell, prompts, service_config, wait_for


@pytest.mark.parametrize("operation", ["write:chunk_", "sync:chunk_", "open:chunk_", "rename:output.jsonl"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk(workspace, service, tmp_path, operation, code):
    plan, clock = tmp_path / "plan", tmp_path / "clock"
    plan.write_text(f"{operation}={code}@3+")
    clock.write_text("0")
    if operation.startswith("rename"):
        plan.write_text(f"{operation}={code}")
    shell = Shell(workspace, BATCH_INFER_FS_FAULTS_FILE=str(plan), BATCH_INFER_CLOCK_FILE=str(clock))
    shell.config(model=service_config(service))
    prompts(workspace / "in.jsonl", 100)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    reason = "disk_full" if code == errno.ENOSPC else "io"
    status = wait_for(lambda: (s := shell.status("A"))["state"] == "paused" and s, "the pause")
    assert status["reason"] == reason
    plan.write_text("")
    if code == errno.ENOSPC:
        clock.write_text("60")
    else:
        shell.run("-resume", "A")
    shell.run("-monitor", "A", timeout=60)
    out = Outputs(workspace, "A")
    out.check_identity(100)
    assert len(out.output) == 100


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path, service):
    workspace = tmp_path / "small"
    workspace.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=768k,mode=0700", "tmpfs", str(workspace)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stderr.decode()}")
    clock = tmp_path / "clock"
    clock.write_text("0")
    shell = Shell(workspace, BATCH_INFER_CLOCK_FILE=str(clock))
    try:
        shell.config(model=service_config(service))
        prompts(tmp_path / "in.jsonl", 2000)
        shell.run("-pipeline", str(tmp_path / "in.jsonl"), "-task-id", "A")
        wait_for(lambda: shell.status("A")["reason"] == "disk_full", "the pause")
        subprocess.run(["mount", "-o", "remount,size=64m", str(workspace)], check=True)
        clock.write_text("60")
        shell.run("-monitor", "A", timeout=100)
        Outputs(workspace, "A").check_identity(2000)
    finally:
        shell.run("-daemon", "stop", code=None)
        wait_for(lambda: subprocess.run(["umount", str(workspace)], check=False).returncode == 0, "umount")
