"""The first request of a large input leaves at once: what stands behind it is not read before."""

import json

from harness import Outputs, prompts, service_config, wait_for

SIZE = 3 << 30
READ_MOST = 64 << 20  # the program's own modules included


def test_little_is_read_before_the_first_request(shell, service):
    service.control(latency_ms=1000)
    shell.config(
        model=service_config(service),
        execution={"concurrency": 2},
        limits={"max_concurrency": 2},
        lines_per_chunk=50,
    )
    line = json.dumps({"messages": [{"role": "user", "content": "plain " + "x" * 900}]}) + "\n"
    path = shell.workspace / "in.jsonl"
    with path.open("w") as file:
        file.write(line * 20_000)  # real lines, as far as the task will come
        file.truncate(SIZE)
    for task_id in ("cold", "warm"):
        before = service.summary().requests
        shell.run("-pipeline", "in.jsonl", "-task-id", task_id)
        wait_for(lambda before=before: service.summary().requests > before, "a request")
        assert shell.daemon().io_counters().read_chars < READ_MOST
        shell.run("-cancel", task_id, code=None)
        wait_for(lambda task_id=task_id: shell.status(task_id)["state"] == "cancelled", "the cancel")
        report = json.loads((shell.workspace / "merged" / task_id / "report.json").read_text())
        assert report["unread"]["byte"] < 20_000 * len(line)


def test_a_daemon_that_gets_work_has_its_worker_at_once(shell, service):
    """It was started before the daemon was ready, and it is the one that does the work."""
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    Outputs(shell.workspace, "A").check_identity(20)
    (worker,) = shell.workers()
    assert "--with-worker" in shell.daemon().cmdline()
    assert worker.parent() == shell.daemon()
    ready = (shell.workspace / ".daemon.json").stat().st_mtime
    assert worker.create_time() < ready


def test_a_daemon_that_is_only_asked_has_no_worker(shell):
    shell.run("-daemon", "start")
    assert "--with-worker" not in shell.daemon().cmdline()
    assert not shell.workers()


def test_a_refused_submit_leaves_a_worker_for_the_next_one(shell, service):
    prompts(shell.workspace / "in.jsonl", 20)
    shell.config(model=service_config(service), limits={"max_concurency": 2})
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", code=2)
    shell.config(model=service_config(service))
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    Outputs(shell.workspace, "A").check_identity(20)
    assert len(shell.workers()) == 1
