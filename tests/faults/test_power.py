"""A loss of power: only what was synced is there. What a chunk's seal promised holds all the same."""

import json
import sqlite3
from contextlib import closing

from batch_inferd.journal.reader import read_chunk
from batch_inferd.seams.files import Directory
from harness import Outputs, Shell, kill, prompts, service_config, wait_for

RECORDS = 600


def unsynced(folder, journal):
    """A task's journals and chunk files that were not synced whole: path, size, and bytes that were."""
    synced: dict[str, int] = {}
    for line in journal.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            entry = json.loads(line)
            synced[entry["name"]] = max(synced.get(entry["name"], 0), entry["size"])
    found = []
    for path in folder.glob("0*/chunk_*.jsonl"):
        size, kept = path.stat().st_size, synced.get(f"{path.parent.name}/{path.name}", 0)
        if size > kept or not kept:
            found.append((path, size, kept))
    return found


def lose_power(folder, journal):
    """Take away what was never synced; how many bytes that were."""
    lost = 0
    for path, size, kept in unsynced(folder, journal):
        lost += size - kept
        if kept:
            with path.open("r+b") as file:
                file.truncate(kept)
        else:
            path.unlink()  # nobody made its name durable either
    return lost


def test_what_was_sealed_survives(workspace, service, tmp_path):
    journal = tmp_path / "synced.jsonl"
    shell = Shell(workspace, BATCH_INFER_FS_JOURNAL=str(journal))
    service.control(latency_ms=[20, 200])  # it is not over before it was looked at
    shell.config(model=service_config(service), execution={"concurrency": 16}, limits={"max_concurrency": 16})
    prompts(workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    folder = workspace / "chunks/A"
    lost = 0
    for wanted in (100, 250, 400):
        wait_for(lambda wanted=wanted: shell.status("A")["counts"]["output"] > wanted, f"{wanted} answers")
        daemon, workers = shell.daemon(), shell.workers()
        wait_for(lambda: unsynced(folder, journal), "something that is not synced")
        kill(daemon)
        for worker in workers:
            kill(worker)
        lost += lose_power(folder, journal)
        with closing(sqlite3.connect(folder / "task.db")) as db:
            done = db.execute("SELECT n, records FROM chunks WHERE state = 'done'").fetchall()
        directory = Directory(folder)
        for chunk, records in done:
            assert len(read_chunk(directory, chunk, 0).terminals) == records
        directory.close()
        shell.run("-list")
    assert lost > 0, "something was not synced yet: else this shows nothing"
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=100)
    out = Outputs(workspace, "A")
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
