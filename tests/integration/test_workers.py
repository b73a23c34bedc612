"""Several worker processes on one task, and limits that hold across them."""

from harness import Outputs, paid_again, prompts, service_config, wait_for


def test_multiprocessing(shell, service):
    service.control(latency_ms=[10, 60])
    shell.config(
        model=service_config(service),
        execution={"mode": "multiprocessing", "processes": 3, "concurrency": 9},
        limits={"max_concurrency": 9},
    )
    prompts(shell.workspace / "in.jsonl", 600)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: len(shell.workers()) == 3, "three workers")
    shell.run("-monitor", "A")
    out = Outputs(shell.workspace, "A")
    out.check_identity(600)
    assert out.ids == [f"q-{n}" for n in range(600)]
    assert not paid_again(out.output, service.ledger())
    summary = service.summary()
    assert summary.billed == 600
    assert summary.max_concurrent <= 9


def test_one_slot_serves_three_workers(shell, service):
    shell.config(
        model=service_config(service),
        execution={"mode": "multiprocessing", "processes": 3, "concurrency": 1},
        limits={"max_concurrency": 1},
    )
    prompts(shell.workspace / "in.jsonl", 50)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    Outputs(shell.workspace, "A").check_identity(50)
    assert service.summary().max_concurrent == 1


def test_a_small_late_task_is_not_starved(shell, service):
    service.control(latency_ms=50)
    shell.config(model=service_config(service), execution={"concurrency": 8}, limits={"max_concurrency": 8})
    prompts(shell.workspace / "big.jsonl", 3000, tag="big")
    prompts(shell.workspace / "small.jsonl", 20, tag="small")
    shell.run("-pipeline", "big.jsonl", "-task-id", "big")
    wait_for(lambda: shell.status("big")["counts"]["output"] > 20, "the big one to run")
    shell.run("-pipeline", "small.jsonl", "-task-id", "small", "-wait")
    big = shell.status("big")
    assert big["state"] == "running"
    assert big["counts"]["output"] < 1500
    shell.run("-cancel", "big")


def test_a_replaced_program_takes_over(shell, service, tmp_path):
    """A worker of another build than its daemon: the daemon drains, and starts again as the new build."""
    service.control(latency_ms=30)
    old = tmp_path / "old"
    old.mkdir()
    (old / "sitecustomize.py").write_text(
        "import sys\n"
        "argv = sys.orig_argv\n"
        "if 'batch_inferd.worker' not in argv and not argv[-1].endswith('workspace'):\n"
        "    import batch_infer.version as v\n"
        "    v.__version__ = '0.0.1'\n"
    )
    shell.environ["PYTHONPATH"] = str(old)
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 100)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    del shell.environ["PYTHONPATH"]
    shell.run("-monitor", "A", timeout=60)
    Outputs(shell.workspace, "A").check_identity(100)
    log = shell.log_tail()
    assert "batch_inferd 0.0.1 serves" in log
    assert "batch_inferd 0.1.0 serves" in log
