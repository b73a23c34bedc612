"""A loss of power: only what was synced is there. What a chunk's seal promised holds all the same."""

import json
import sqlite3
from contextlib import closing

from batch_inferd.journal.reader import read_chunk
from batch_inferd.seams.files import Directory
from harness import Outputs, Shell, kill, prompts, service_config, wait_for

RECORDS = 600


def lose_power(folder, journal):
    """Take away from a task's journals and chunk files what was never synced; how many bytes that were."""
    synced: dict[str, int] = {}
    for line in journal.read_text().splitlines():
        entry = json.loads(line)
        synced[entry["name"]] = max(synced.get(entry["name"], 0), entry["size"])
    lost = 0
    for path in folder.glob("0*/chunk_*.jsonl"):
        size = path.stat().st_size
        kept = synced.get(f"{path.parent.name}/{path.name}", 0)
        lost += size - min(size, kept)
        if not kept:
            path.unlink()  # nobody made its name durable either
        elif size > kept:
            with path.open("r+b") as file:
                file.truncate(kept)
    return lost


def test_what_was_sealed_survives(workspace, service, tmp_path):
    journal = tmp_path / "synced.jsonl"
    shell = Shell(workspace, BATCH_INFER_FS_JOURNAL=str(journal))
    service.control(latency_ms=[1, 60])
    shell.config(model=service_config(service), execution={"concurrency": 16}, limits={"max_concurrency": 16})
    prompts(workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    lost = 0
    for wanted in (100, 250, 400):
        wait_for(lambda wanted=wanted: shell.status("A")["counts"]["output"] > wanted, f"{wanted} answers")
        daemon, workers = shell.daemon(), shell.workers()
        kill(daemon)
        for worker in workers:
            kill(worker)
        folder = workspace / "chunks/A"
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
