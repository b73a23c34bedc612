"""Quick commands stay quick: the way to a running daemon imports nothing heavy, and nothing of the daemon."""

import subprocess
import sys

HEAVY = {"httpx", "yaml", "sqlite3", "rich", "asyncio", "psutil", "filelock", "platformdirs", "subprocess"}


def imported(code):
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_connection_and_the_launch():
    modules = imported("import batch_infer.launch, batch_infer.connection")
    assert "batch_infer" in modules
    assert modules & HEAVY == set()
    assert "batch_inferd" not in modules


def test_connecting_to_a_running_daemon(workspace, monkeypatch):
    """Not only the imports at the top: the whole way, up to an answer."""
    script = """
import os, socket, threading
from batch_infer import launch
from batch_infer.protocol import beacon, frames, rpc
from batch_infer.protocol.workspace import find_workspace
place = find_workspace()
path = os.environ["XDG_RUNTIME_DIR"] + "/s"
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
beacon.write(place.beacon, beacon.of_this_process(f"unix:{path}", "s", (1, 1), "0"))
def serve():
    client, _ = listener.accept()
    for answer in ({"protocol": 1}, {"tasks": []}):
        client.sendall(frames.encode(rpc.result(frames.read_blocking(client.recv)["id"], answer)))
threading.Thread(target=serve).start()
assert launch.connect_or_start(place).call("list") == {"tasks": []}
"""
    monkeypatch.chdir(workspace)
    assert imported(script) & HEAVY == set()
