"""Chunks that are done are merged while the others run; whatever comes in between, the outputs are whole."""

import pytest

from harness import Outputs, kill, prompts, service_config, wait_for

RECORDS = 400


@pytest.fixture
def running(shell, service):
    """A task with one record a chunk, of which the first hundreds are merged; the others take their time."""
    shell.config(
        model=service_config(service),
        lines_per_chunk=1,
        execution={"concurrency": 8},
        limits={"max_concurrency": 8},
    )
    service.control(latency_ms=200)
    prompts(shell.workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "X")
    wait_for(lambda: stage(shell).exists(), "the early merge")
    status = shell.status("X")
    assert (status["state"], status["counts"]["pending"] > 0) == ("running", True)
    return shell


def stage(shell):
    return shell.workspace / "merged/X/.stage-1"


def end(shell, service):
    service.control(latency_ms=0)
    shell.run("-monitor", "X", timeout=100)
    out = Outputs(shell.workspace, "X")
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert not stage(shell).exists()
    return out


def test_the_outputs_are_those_of_a_merge_at_the_end(running, service):
    out = end(running, service)
    assert [chunk["chunk"] for chunk in out.report["chunks"]] == list(range(1, RECORDS + 1))
    found = running.json("-validate", "X", "-repair")
    assert found["ok"] is True


def test_a_killed_daemon_begins_again(running, service):
    kill(running.daemon())
    running.run("-status", "X")
    end(running, service)


def test_a_pause_gives_it_up_and_a_resume_begins_again(running, service):
    running.run("-pause", "X")
    wait_for(lambda: not stage(running).exists(), "the stage to go")
    running.run("-resume", "X")
    end(running, service)


def test_a_cancelled_task_is_merged_as_it_ended(running, service):
    running.run("-cancel", "X")
    running.run("-monitor", "X", code=None)
    out = Outputs(running.workspace, "X")
    counts = out.report["counts"]
    assert out.report["state"] == "cancelled"
    assert counts["input"] == counts["output"] + counts["missing"] + counts["error"]
    assert len(out.output) == counts["output"] > 0
    assert not stage(running).exists()


def test_a_stage_that_somebody_removes_is_made_again(running, service):
    for path in (*stage(running).iterdir(), stage(running)):
        path.rmdir() if path.is_dir() else path.unlink()
    end(running, service)


def test_a_folder_of_outputs_that_is_moved_away_is_made_again(running, service):
    (running.workspace / "merged/X").rename(running.workspace / "aside")
    end(running, service)
