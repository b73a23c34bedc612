"""Each execution mode from end to end: all is answered, limits hold, and no process's end costs twice."""

import signal

import pytest

from harness import Outputs, kill, paid_again, prompts, service_config, wait_for

RECORDS = 600
MODES = {
    "asyncio": (1, [1]),
    "threading": (3, [3]),
    "multiprocessing": (2, [1, 1]),
}


def submit(shell, service, mode, count, latency_ms=(10, 60), records=RECORDS):
    service.control(latency_ms=list(latency_ms))
    shell.config(
        model=service_config(service),
        execution={"mode": mode, "processes": count, "concurrency": 9},
        limits={"max_concurrency": 9},
    )
    prompts(shell.workspace / "in.jsonl", records)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")


def seats(shell):
    """How many there are in each worker process, the oldest first."""
    return [worker["seats"] for worker in shell.json("-daemon", "status")["workers"]]


def answered(shell):
    return shell.status("A")["counts"]["output"]


def check(shell, service, records=RECORDS):
    out = Outputs(shell.workspace, "A")
    out.check_identity(records)
    assert out.ids == [f"q-{n}" for n in range(records)]
    assert not paid_again(out.output, service.ledger())
    return out


@pytest.mark.parametrize("mode", MODES)
def test_end_to_end(shell, service, mode):
    count, layout = MODES[mode]
    submit(shell, service, mode, count)
    wait_for(lambda: seats(shell) == layout, f"seats {layout}")
    shell.run("-monitor", "A")
    check(shell, service)
    assert service.summary().billed == RECORDS
    assert service.summary().max_concurrent <= 9


@pytest.mark.parametrize("mode", ["threading", "multiprocessing"])
def test_a_killed_worker(shell, service, mode):
    count, layout = MODES[mode]
    submit(shell, service, mode, count, latency_ms=(50, 150))
    wait_for(lambda: seats(shell) == layout and answered(shell) > 40, "all seats at work")
    victim = shell.workers()[0]
    before = answered(shell)
    kill(victim)
    wait_for(lambda: answered(shell) > before + 40, "the others, or its successor, to go on")
    wait_for(
        lambda: seats(shell) == layout and victim.pid not in [w.pid for w in shell.workers()], "a new one"
    )
    service.control(latency_ms=[0, 20])
    shell.run("-monitor", "A")
    out = check(shell, service)
    # Only what was in flight in that process is paid for twice, and no retry is used up.
    assert RECORDS <= service.summary().billed <= RECORDS + 9
    assert out.report["attempts"]["retries"] == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "ended", ["the daemon by -daemon stop", "the daemon by SIGTERM", "a worker by SIGTERM"]
)
def test_a_polite_end_sends_nothing_twice(shell, service, mode, ended):
    count, layout = MODES[mode]
    submit(shell, service, mode, count, latency_ms=(50, 150))
    wait_for(lambda: seats(shell) == layout and answered(shell) > 20, "all seats at work")
    workers = shell.workers()
    if ended == "a worker by SIGTERM":
        workers[0].send_signal(signal.SIGTERM)
        workers[0].wait(30)
    else:
        daemon = shell.daemon()
        if ended == "the daemon by SIGTERM":
            daemon.send_signal(signal.SIGTERM)
        else:
            shell.run("-daemon", "stop")
        daemon.wait(30)
        assert not [worker for worker in workers if worker.is_running()]
        shell.run("-list")
    wait_for(lambda: seats(shell) == layout, "the seats again")
    service.control(latency_ms=[0, 20])
    shell.run("-monitor", "A")
    check(shell, service)
    assert service.summary().billed == service.summary().requests == RECORDS
    assert service.summary().max_concurrent <= 9
