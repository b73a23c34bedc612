"""What one task suffers is not the others' business: removed folders, ends, copies, failing starts."""

import errno
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from batch_infer.launch import connect_or_start
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import BatchInferError
from batch_infer.protocol.workspace import Workspace
from harness import Outputs, Shell, prompts, service_config, wait_for

SLOW = {"execution": {"concurrency": 4}, "limits": {"max_concurrency": 4}}


def test_removing_many_running_tasks_leaves_the_daemon_serving(shell, service):
    service.control(latency_ms=100)
    shell.config(model=service_config(service), **SLOW)
    prompts(shell.workspace / "in.jsonl", 200)
    names = [f"t{n}" for n in range(10)]
    for name in [*names, "kept"]:
        shell.run("-pipeline", "in.jsonl", "-task-id", name)
    for name in names:
        path = shell.workspace / "chunks" / name
        wait_for(
            lambda path=path: shutil.rmtree(path, ignore_errors=True) or not path.exists(), f"rm -rf {path}"
        )
        assert shell.status("kept")["state"] == "running"
    service.control(latency_ms=0)
    shell.run("-monitor", "kept")
    Outputs(shell.workspace, "kept").check_identity(200)
    assert [row["task_id"] for row in shell.json("-list")["tasks"]] == ["kept"]


def test_the_daemon_ends_while_clients_ask(shell, service):
    service.control(latency_ms=100)
    shell.config(model=service_config(service), **SLOW)
    prompts(shell.workspace / "in.jsonl", 100)
    for name in "AB":
        shell.run("-pipeline", "in.jsonl", "-task-id", name)
    connection = connect_or_start(Workspace(shell.workspace))

    def ask():
        asked = 0
        while True:
            try:
                connection.call(rpc.STATUS, {"task_id": "A"})
            except BatchInferError:
                return asked
            asked += 1

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask)
        stopped = time.monotonic()
        shell.run("-daemon", "stop", timeout=40)
        assert asking.result(timeout=30) > 0
    connection.close()
    assert time.monotonic() - stopped < 30
    service.control(latency_ms=0)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    Outputs(shell.workspace, "A").check_identity(100)


def test_listing_while_others_submit(shell, service):
    service.control(latency_ms=20)
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 20)
    names = [f"t{n}" for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        submits = [
            pool.submit(shell.run, "-pipeline", "in.jsonl", "-task-id", name, "-wait") for name in names
        ]
        while not all(submit.done() for submit in submits):
            shell.run("-list", timeout=20)
        for submit in submits:
            submit.result()
    for name in names:
        Outputs(shell.workspace, name).check_identity(20)


def test_a_publication_that_fails_at_the_start_pauses_its_task_only(workspace, service, tmp_path):
    plan, fired, clock = tmp_path / "plan", tmp_path / "fired", tmp_path / "clock"
    fired.mkdir()
    clock.write_text("0")
    shell = Shell(
        workspace,
        BATCH_INFER_FAILPOINTS="publish.renamed_one=exit",
        BATCH_INFER_FAILPOINT_DIR=str(fired),
        BATCH_INFER_FS_FAULTS_FILE=str(plan),
        BATCH_INFER_CLOCK_FILE=str(clock),
    )
    shell.config(model=service_config(service))
    prompts(workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", code=None)
    wait_for((fired / "publish.renamed_one.fired").exists, "the crash")
    plan.write_text(f"rename:jsonl={errno.ENOSPC};rename:report={errno.ENOSPC}")
    status = wait_for(lambda: (s := shell.status("A"))["state"] == "paused" and s, "the pause")
    assert status["reason"] == "disk_full"
    plan.write_text("")
    # Whoever starts the daemon anew finds a task that waits for room, and that goes on.
    shell.run("-daemon", "stop")
    shell.run("-list")
    clock.write_text("120")
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    Outputs(workspace, "A").check_identity(20)


def test_a_cancelled_task_on_a_full_disk_waits_quietly(workspace, service, tmp_path):
    plan, clock = tmp_path / "plan", tmp_path / "clock"
    clock.write_text("0")
    shell = Shell(workspace, BATCH_INFER_FS_FAULTS_FILE=str(plan), BATCH_INFER_CLOCK_FILE=str(clock))
    service.control(latency_ms=100)
    shell.config(model=service_config(service), **SLOW)
    prompts(workspace / "in.jsonl", 100)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] > 3, "some answers")
    plan.write_text(f"write:={errno.ENOSPC};open:chunk={errno.ENOSPC};sync:={errno.ENOSPC}")
    wait_for(lambda: shell.status("A")["reason"] == "disk_full", "the pause")
    shell.run("-cancel", "A")
    wait_for(lambda: shell.status("A")["waiting"], "the trouble to be told")
    log = next((workspace / "logs").glob("A_*.log"))
    before = log.read_text().count("a write failed")
    for _ in range(20):
        assert shell.status("A")["state"] != "cancelled"
    assert log.read_text().count("a write failed") - before <= 2
    plan.write_text("")
    clock.write_text("120")
    wait_for(lambda: shell.status("A")["state"] == "cancelled", "the end")
    counts = Outputs(workspace, "A").report["counts"]
    assert counts["pending"] == 0


def test_credit_that_comes_back_wakes_all_tasks_of_the_account(workspace, service, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    shell = Shell(workspace, BATCH_INFER_CLOCK_FILE=str(clock))
    service.control(credit="402")
    shell.config(model=service_config(service))
    prompts(workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["reason"] == "credit", "the pause")
    service.control(credit="ok")
    shell.run("-pipeline", "in.jsonl", "-task-id", "B", "-wait")
    wait_for(lambda: shell.status("A")["state"] == "completed", "the other one")


def test_credit_is_probed_by_a_daemon_that_starts_anew(workspace, service):
    shell = Shell(workspace)
    service.control(credit="402")
    shell.config(model=service_config(service))
    prompts(workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["reason"] == "credit", "the pause")
    shell.daemon().kill()
    service.control(credit="ok")
    shell.run("-list")
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")


def test_a_folder_copied_beside_a_running_daemon(shell, service):
    service.control(latency_ms=800)
    shell.config(model=service_config(service), **SLOW)
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "X")
    wait_for(lambda: shell.status("X")["counts"]["output"] > 3, "some answers")
    shell.run("-pause", "X")
    shutil.copytree(shell.workspace / "chunks/X", shell.workspace / "chunks/Y")
    assert shell.status("Y")["reason"] == "moved"
    shell.run("-resume", "X")
    shell.run("-cancel", "Y")
    wait_for(lambda: shell.status("Y")["state"] == "cancelled", "the copy's end")
    service.control(latency_ms=0)
    shell.run("-monitor", "X")
    Outputs(shell.workspace, "X").check_identity(60)


@pytest.mark.parametrize("how", ["replaced", "edited", "touched"])
def test_an_input_that_changes_while_the_task_rests(shell, service, how):
    service.control(latency_ms=50)
    shell.config(model=service_config(service), lines_per_chunk=5, **SLOW)
    path = prompts(shell.workspace / "in.jsonl", 200)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] > 3, "some answers")
    shell.run("-pause", "A")
    if how == "replaced":
        path.unlink()
        prompts(path, 200, tag="x")
    elif how == "edited":
        path.write_bytes(path.read_bytes().replace(b"q 1:", b"q 9:"))
    else:
        path.touch()
    shell.run("-resume", "A")
    service.control(latency_ms=0)
    wait_for(lambda: shell.status("A")["reason"] == "input_changed", "the pause")
    shell.run("-resume", "A")  # a person says that it is the one
    if how == "touched":
        shell.run("-monitor", "A")
        Outputs(shell.workspace, "A").check_identity(200)
    else:
        wait_for(lambda: shell.status("A")["reason"] == "input_changed", "the second pause")


def test_a_retry_needs_no_input_file(shell, service):
    service.control(rules=[{"contains": "q 3:", "do": "400", "times": 1}])
    shell.config(model=service_config(service))
    path = prompts(shell.workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    shell.run("-daemon", "stop")
    path.unlink()
    shell.run("-retry", "A", "-wait")
    Outputs(shell.workspace, "A", round=1).check_identity(20)


def test_the_strictest_limit_of_the_tasks_that_run_holds(shell, service):
    service.control(latency_ms=20)
    shell.config(model=service_config(service), execution={"concurrency": 2}, limits={"max_concurrency": 2})
    shell.config("wide.yaml", model=service_config(service))
    prompts(shell.workspace / "long.jsonl", 2000, tag="long")
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "long.jsonl", "-task-id", "narrow")
    wait_for(lambda: service.summary().requests > 3, "calls")
    shell.run("-pipeline", "in.jsonl", "-task-id", "wide", "-config", "wide.yaml", "-wait")
    assert shell.status("narrow")["state"] == "running"
    assert service.summary().max_concurrent <= 2
    # And it does not outlive its task.
    shell.run("-cancel", "narrow")
    wait_for(lambda: shell.status("narrow")["state"] == "cancelled", "the cancel")
    prompts(shell.workspace / "more.jsonl", 200, tag="more")
    shell.run("-pipeline", "more.jsonl", "-task-id", "after", "-config", "wide.yaml", "-wait")
    assert service.summary().max_concurrent > 2
