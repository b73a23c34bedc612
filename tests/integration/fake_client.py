"""A client process: waits at a barrier, then connects or starts, submits, and tells what it met."""

from __future__ import annotations

import json
import sys

from batch_infer import launch, spawn
from batch_infer.protocol.errors import BatchInferError
from batch_infer.protocol.workspace import find_workspace

spawn.MODULE = "fake_daemon"


def run() -> dict[str, object]:
    with launch.connect_or_start(find_workspace(sys.argv[1])) as connection:
        answer = connection.call("submit")
        return {"pid": connection.pid, "answered_by": answer["pid"]}


print("at the barrier", flush=True)
sys.stdin.readline()
try:
    print(json.dumps(run()), flush=True)
except BatchInferError as error:
    print(json.dumps({"error": str(error)}), flush=True)
