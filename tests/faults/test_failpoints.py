"""Every failpoint exits its process once; after the restart nothing is lost and nothing paid twice."""

import shutil

import pytest

from batch_inferd.seams.failpoint import FAILPOINTS
from harness import Outputs, Shell, paid_again, prompts, service_config, wait_for

RECORDS = 60
OTHER_WAYS = {
    "cancel.committed",
    "cancel.closed",
    "mend.config_written",
    "set.config_written",
    "adopt.committed",
}


# These have tests of their own.
ELSEWHERE = ("batch.", "spool.", "prepare.", "clean.", "repair.", "retry.carried", "export.")


@pytest.mark.parametrize("name", sorted(n for n in FAILPOINTS - OTHER_WAYS if not n.startswith(ELSEWHERE)))
def test_exit_once(workspace, service, tmp_path, name):
    fired = tmp_path / "fired"
    fired.mkdir()
    service.control(rules=[{"contains": "q 3:", "do": "400"}])
    hit = "@5" if name.startswith(("call.", "journal.")) else ""
    shell = Shell(workspace, BATCH_INFER_FAILPOINTS=f"{name}=exit{hit}", BATCH_INFER_FAILPOINT_DIR=str(fired))
    shell.config(model=service_config(service), execution={"concurrency": 8})
    prompts(workspace / "in.jsonl", RECORDS)

    def ended():
        # A daemon that was made to exit is started again by the next command; a lost submit is repeated.
        process = shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=None, timeout=60)
        return (
            process.returncode in (0, 1, 3)
            and (workspace / "merged/A/report.json").exists()
            and state() == "completed"
        )

    def state():
        return shell.json("-status", "A", code=None).get("state")

    wait_for(ended, "the end")
    service.control(rules=[])
    retried = shell.run("-retry", "A", "-wait", code=None)
    if retried.returncode != 0:  # the failpoint of the retry itself: the daemon goes on with it
        wait_for(lambda: state() == "completed", "the retry")
    assert (fired / f"{name}.fired").exists(), "the failpoint was never met"
    out = Outputs(workspace, "A", round=1)
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert not paid_again(out.output, service.ledger())


@pytest.mark.parametrize("name", sorted(OTHER_WAYS))
def test_exit_once_on_other_ways(workspace, service, tmp_path, name):
    """A cancel, a mended config, other settings, a copied folder: what was half done is done, or can be."""
    fired = tmp_path / "fired"
    fired.mkdir()
    shell = Shell(workspace, BATCH_INFER_FAILPOINTS=f"{name}=exit", BATCH_INFER_FAILPOINT_DIR=str(fired))
    service.control(latency_ms=1000)  # whatever is done to the task, it still runs
    slow = {"execution": {"concurrency": 4}, "limits": {"max_concurrency": 4}}
    shell.config(model=service_config(service), **slow)
    shell.config("mended.yaml", model=service_config(service, password="sk-other"), max_retry_count=7, **slow)
    prompts(workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] > 3, "some answers")

    def state(task_id="A"):
        return shell.json("-status", task_id, code=None).get("state")

    if name.startswith("cancel"):
        shell.run("-cancel", "A", code=None)
        wait_for((fired / f"{name}.fired").exists, "the crash")
        wait_for(lambda: state() == "cancelled", "the cancel to be gone on with")
        counts = Outputs(workspace, "A").report["counts"]
        assert counts["input"] == counts["output"] + counts["error"] + counts["missing"]
        assert service.summary().billed - 4 <= counts["output"] <= service.summary().billed
        return
    if name.startswith("mend"):
        shell.run("-pause", "A")
        shell.run("-resume", "A", "-config", "mended.yaml", code=None)
        wait_for((fired / f"{name}.fired").exists, "the crash")
        shell.run("-resume", "A", "-config", "mended.yaml")
        task_id = "A"
    elif name.startswith("set"):
        shell.run("-set", "A", "concurrency=3", "priority=2", code=None)
        wait_for((fired / f"{name}.fired").exists, "the crash")
        execution = shell.status("A")["execution"]
        assert (execution["concurrency"], execution["priority"]) == (3, 2)
        task_id = "A"
    else:
        shell.run("-pause", "A")
        shutil.copytree(workspace / "chunks/A", workspace / "chunks/B")
        assert shell.status("B")["reason"] == "moved"
        shell.run("-resume", "B", code=None)
        wait_for((fired / f"{name}.fired").exists, "the crash")
        shell.run("-resume", "B")
        task_id = "B"
    service.control(latency_ms=10)
    wait_for(lambda: state(task_id) == "completed", "the end")
    out = Outputs(workspace, task_id)
    out.check_identity(RECORDS)
    assert not paid_again(out.output, service.ledger())
