"""A hostile local client leaves a working daemon serving others, in bounded memory."""

import socket
import struct
import threading

from harness import Outputs, prompts, service_config, wait_for

MANY = 1000


def connect(shell):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    try:
        client.connect(shell.beacon()["endpoint"].removeprefix("unix:"))
    except OSError:
        client.close()
        raise
    return client


def hello(shell, secret=None):
    import json

    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "hello",
            "params": {"protocol": [1, 1], "secret": secret or shell.beacon()["secret"], "version": "0"},
        }
    )
    return struct.pack(">I", len(body)) + body.encode()


def test_the_daemon_serves_others(shell, service):
    service.control(latency_ms=50)
    shell.config(model=service_config(service), execution={"concurrency": 4}, limits={"max_concurrency": 8})
    prompts(shell.workspace / "in.jsonl", 300)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    daemon = shell.daemon()
    before = daemon.memory_info().rss
    peak, ended = [before], threading.Event()

    def sample():
        while not ended.wait(0.02):
            peak.append(daemon.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    held = []
    for payload in (
        struct.pack(">I", 0xFFFFFFFF) + b"x" * 1000,  # a huge length
        b"\0\0",  # half a header
        struct.pack(">I", 500) + b"{",  # half a frame
        struct.pack(">I", 4000) + b"[" * 4000,  # deep JSON
        hello(shell, "wrong" * 8),
        hello(shell) + struct.pack(">I", 1 << 30),
        hello(shell) + struct.pack(">I", 900_000) + b"[" * 900_000,
    ):
        client = connect(shell)
        client.sendall(payload)
        held.append(client)
    flooder = connect(shell)
    flooder.sendall(hello(shell))
    stop = threading.Event()

    def flood():  # asks and never reads
        body = b'{"jsonrpc":"2.0","id":1,"method":"list","params":{}}'
        frame = struct.pack(">I", len(body)) + body
        while not stop.is_set():
            try:
                flooder.sendall(frame * 100)
            except OSError:
                return

    thread = threading.Thread(target=flood)
    thread.start()
    for _ in range(MANY):
        try:
            held.append(connect(shell))
        except OSError:
            continue
    # Others are served all the while, and the task goes on.
    assert shell.json("-list")["tasks"][0]["task_id"] == "A"
    for client in held[50:]:
        client.close()
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end", bound=60)
    stop.set()
    flooder.close()
    thread.join(20)
    for client in held:
        client.close()
    Outputs(shell.workspace, "A").check_identity(300)
    assert shell.daemon().pid == daemon.pid
    ended.set()
    sampler.join(10)
    assert max(peak) - before < 64 * 2**20
