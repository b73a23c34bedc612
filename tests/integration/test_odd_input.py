"""What stands in a record ends that record: the command, the task and the other records go on."""

import gzip
import json

import pytest

from harness import Outputs, service_config

LONE = "\ud800"
HOST = "http://{bucket}.localhost:1"
KEYS = {"endpoint": HOST, "access_key_id": "k", "secret_access_key": "s"}
ODD = [
    f"{LONE}.png", f"s3://b/{LONE}", "file://[::1/x.png", "x" * 300 + "\\y.png", f"file:///{LONE}.png",
    "s3://é/x.png", "s3://evil.example:8080?/x.png", "s3://[/x.png",
    "s3://" + "b" * 300 + "/x.png", "s3://" + "b" * 100 + "/x.png",
]  # fmt: skip


@pytest.mark.parametrize("backend", ["online", "batch"])
def test_odd_references(shell, service, backend):
    shell.config(model=service_config(service), input={"s3": KEYS}, images={}, backend=backend)
    rows = [{"id": f"r{n}", "input_prompt": "What?", "images": [ref]} for n, ref in enumerate(ODD)]
    rows.append({"id": "good", "input_prompt": "hello"})
    path = shell.workspace / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shell.run("-estimate", "odd.jsonl")
    made = shell.json("-prepare", "odd.jsonl", "-out", "made.jsonl", "-shape", "openai", code=1)
    assert (made["count"], made["failed"]) == (1, len(ODD))
    shell.run("-pipeline", "odd.jsonl", "-task-id", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A", 0)
    out.check_identity(len(rows))
    assert out.ids == ["good"]


def test_odd_references_in_requests_that_are_there_already(shell, service):
    shell.config(model=service_config(service), input={"s3": KEYS}, images={})
    urls = [f"file:///{LONE}.png", "s3://é/x.png", "s3://[/x.png", "s3://127.0.0.1:1?/x.png"]
    content = [[{"type": "image_url", "image_url": {"url": url}}] for url in urls]
    lines = [{"messages": [{"role": "user", "content": one}]} for one in [*content, "hello"]]
    (shell.workspace / "odd.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shell.run("-pipeline", "odd.jsonl", "-task-id", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A", 0)
    out.check_identity(len(lines))
    assert len(out.output) == 1


def test_a_line_over_the_limit_in_an_archive(shell, service):
    shell.config(model=service_config(service), input={"max_line_bytes": 2048})
    lines = [{"messages": [{"role": "user", "content": "hello"}], "x": "y" * size} for size in (1, 9000, 1)]
    with gzip.open(shell.workspace / "long.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    shell.run("-pipeline", "long.jsonl.gz", "-task-id", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A", 0)
    out.check_identity(3)
    spooled = (shell.workspace / "chunks/A/input.jsonl").read_bytes()
    assert b"longer than 2048 bytes" in spooled
    assert len(spooled) < 2048
