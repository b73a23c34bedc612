"""50,000 chunks: every answer of the daemon stays small, whatever the task."""

import json
import sqlite3
from typing import TYPE_CHECKING

from batch_infer.launch import connect_or_start
from batch_infer.protocol import frames, rpc
from batch_infer.protocol.workspace import Workspace
from harness import prompts, service_config, wait_for

if TYPE_CHECKING:
    from batch_infer.connection import Connection

CHUNKS = 50_000
A_FRAME = frames.FRAME_CAP // 2  # «no frame near its cap»


def test_fifty_thousand_chunks(shell, service):
    service.control(auth="401")  # it pauses at once: no call is made while we look
    shell.config(model=service_config(service), lines_per_chunk=1)
    prompts(shell.workspace / "in.jsonl", 3)
    shell.run("-pipeline", "in.jsonl", "-task-id", "big", "-wait", code=5)
    shell.run("-daemon", "stop")
    wait_for(lambda: not shell_has_daemon(shell), "the daemon to end")
    with sqlite3.connect(shell.workspace / "chunks/big/task.db") as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(chunks)")]
        (row,) = db.execute("SELECT * FROM chunks WHERE n = 3").fetchall()
        place = columns.index("n")
        db.executemany(
            f"INSERT INTO chunks VALUES ({', '.join('?' * len(columns))})",
            ((*row[:place], n, *row[place + 1 :]) for n in range(4, CHUNKS + 1)),
        )
        db.execute(
            "UPDATE facts SET value = ? WHERE key = 'position'",
            (
                json.dumps(
                    {
                        "offset": 1 << 40,
                        "line": CHUNKS + 1,
                        "chunk": CHUNKS + 1,
                        "records": CHUNKS,
                        "chain": "",
                    }
                ),
            ),
        )
    db.close()

    status = shell.json("-status", "big")
    assert sum(status["chunk_states"].values()) == CHUNKS
    assert status["counts"]["input"] == CHUNKS
    assert shell.json("-monitor", "big", "-once")["task_id"] == "big"
    assert [row["task_id"] for row in shell.json("-list")["tasks"]] == ["big"]

    connection: Connection = connect_or_start(Workspace(shell.workspace))
    seen, cursor, largest = 0, None, 0
    while True:
        page = connection.call(rpc.STATUS, {"task_id": "big", "cursor": cursor, "limit": 1000})
        largest = max(largest, len(json.dumps(page)))
        seen += len(page["chunks"])
        cursor = page["next"]
        if cursor is None:
            break
    connection.close()
    assert seen == CHUNKS
    assert largest < A_FRAME


def shell_has_daemon(shell):
    return shell.json("-daemon", "status", code=None).get("running", False)
