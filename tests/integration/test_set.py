"""-set, and the flags beside -pipeline and -resume: a task changes while it runs, and loses nothing."""

import pytest

from harness import Outputs, kill, paid_again, prompts, service_config, wait_for

RECORDS = 3000


@pytest.fixture
def running(shell, service):
    """A task with calls of 50 ms, two at a time."""
    service.control(latency_ms=50)
    shell.config(model=service_config(service), execution={"concurrency": 2}, limits={"max_concurrency": 2})
    prompts(shell.workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] > 4, "the first answers")
    return shell


def seats(shell):
    return [worker["seats"] for worker in shell.json("-daemon", "status")["workers"]]


def finish(shell, service):
    service.control(latency_ms=0)
    shell.run("-set", "A", "max_concurrency=64", "concurrency=64")
    shell.run("-monitor", "A", timeout=90)
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert not paid_again(out.output, service.ledger())
    assert service.summary().billed == service.summary().requests == RECORDS


def test_concurrency(running, service):
    told = running.run("-set", "A", "max_concurrency=12", "concurrency=12", "rpm=100000").stdout
    assert told.splitlines() == [
        "task A: concurrency 2 -> 12",
        "task A: max_concurrency 2 -> 12",
        "task A: rpm no limit -> 100000",
    ]
    wait_for(lambda: running.status("A")["in_flight"] > 8, "more calls at a time")
    assert running.status("A")["execution"] == {
        "mode": "asyncio",
        "processes": 1,
        "concurrency": 12,
        "max_concurrency": 12,
        "priority": 0,
        "rpm": 100_000,
        "tpm": None,
        "bytes_in_flight": 64 * 2**20,
    }
    running.run("-set", "A", "max_concurrency=1", "concurrency=1", "rpm=null")
    wait_for(lambda: running.status("A")["in_flight"] <= 1, "fewer calls at a time")
    assert service.summary().max_concurrent <= 12
    finish(running, service)


def test_processes_up_and_down_and_another_mode(running, service):
    running.run("-set", "A", "max_concurrency=8", "concurrency=8")
    for words, layout in (
        (("processes=3",), [1, 1, 1]),
        (("processes=1",), [1]),
        (("mode=threading", "processes=4"), [4]),
        (("processes=2",), [2]),
        (("mode=multiprocessing",), [1, 1]),
        (("mode=asyncio",), [1]),
    ):
        running.run("-set", "A", *words)
        wait_for(lambda layout=layout: seats(running) == layout, f"{layout} after {words}")
        before = running.status("A")["counts"]["output"]
        wait_for(lambda before=before: running.status("A")["counts"]["output"] > before + 8, "answers")
    finish(running, service)


def test_it_outlives_the_daemon(running, service):
    running.run("-set", "A", "priority=3", "processes=2")
    kill(running.daemon())
    assert (
        running.status("A")["execution"] | {"priority": 3, "processes": 2, "mode": "multiprocessing"}
        == (running.status("A")["execution"])
    )
    wait_for(lambda: seats(running) == [1, 1], "two workers")
    service.control(latency_ms=0)
    running.run("-set", "A", "max_concurrency=64", "concurrency=64")
    running.run("-monitor", "A", timeout=90)
    Outputs(running.workspace, "A").check_identity(RECORDS)


def test_what_cannot_be(running, service):
    wrong = running.run("-set", "A", "concurency=5", "processes=0", "rpm=fast", code=2)
    assert wrong.stdout == ""
    assert wrong.stderr.splitlines()[0] == "error: the settings have errors"
    assert 'unknown key "concurency"; did you mean "concurrency"?' in wrong.stderr
    assert "processes must be a whole number from 1 to 64" in wrong.stderr
    assert "rpm must be a whole number" in wrong.stderr
    assert running.run("-set", "nobody", "rpm=5", code=3).stdout == ""
    assert running.run("-set", "A", "concurrency=2").stdout == "task A: nothing to change\n"
    answer = running.json("-set", "A", "nobody", "concurrency=5", code=3)
    assert answer["tasks"] == [
        {
            "task_id": "A",
            "state": "running",
            "changes": [{"key": "concurrency", "from": 2, "to": 5}],
            "warnings": ["execution.concurrency 5 is above limits.max_concurrency 2, which holds"],
            "error": None,
        },
        {"task_id": "nobody", "state": None, "changes": [], "warnings": [], "error": "task_not_found"},
    ]
    running.run("-cancel", "A")
    running.run("-monitor", "A", code=5)
    refused = running.run("-set", "A", "concurrency=5", code=3)
    assert "the settings of the task A cannot be changed: it is cancelled" in refused.stderr


def test_flags_beside_pipeline_and_resume(shell, service):
    service.control(latency_ms=100)
    shell.config(model=service_config(service), limits={"max_concurrency": 4})
    prompts(shell.workspace / "in.jsonl", 400)
    flags = ("-processes", "2", "-concurrency", "3", "-priority", "-2")
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", *flags)
    execution = shell.status("A")["execution"]
    assert (execution["mode"], execution["processes"]) == ("multiprocessing", 2)
    assert (execution["concurrency"], execution["priority"]) == (3, -2)
    wait_for(lambda: seats(shell) == [1, 1], "two workers")
    # The same command goes on with the task, by what its flags say now.
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-mode", "threading", "-processes", "2")
    execution = shell.status("A")["execution"]
    assert (execution["mode"], execution["concurrency"], execution["priority"]) == ("threading", 64, 0)
    wait_for(lambda: seats(shell) == [2], "two threads")
    shell.run("-pause", "A")
    shell.run("-resume", "A", "-concurrency", "7", "-mode", "asyncio")
    execution = shell.status("A")["execution"]
    assert (execution["mode"], execution["processes"], execution["concurrency"]) == ("asyncio", 1, 7)
    wrong = shell.run("-resume", "A", "-mode", "async", code=2)
    assert "mode must be one of asyncio, threading, multiprocessing" in wrong.stderr
    service.control(latency_ms=0)
    shell.run("-monitor", "A")
    Outputs(shell.workspace, "A").check_identity(400)
    assert service.summary().billed == service.summary().requests == 400
