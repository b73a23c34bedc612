"""Results from an output.jsonl that is not what was written: which file, which line, and what to do."""

import json
import os

import pytest

from batch_infer.api import Status, Task
from batch_infer.protocol.errors import TaskConflict


def line(n):
    body = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}]}
    told = {"custom_id": str(n), "response": {"status_code": 200, "body": body}, "error": None}
    return json.dumps(told).encode() + b"\n"


@pytest.fixture
def task(tmp_path, monkeypatch):
    made = Task("A", workspace=tmp_path)
    made.outputs.mkdir(parents=True)
    status = Status("completed", None, None, {"output": 3}, 1.0, {})
    monkeypatch.setattr(Task, "status", lambda _: status)
    return made


def test_what_is_whole(task):
    (task.outputs / "output.jsonl").write_bytes(b"".join(map(line, range(3))))
    assert [result.custom_id for result in task.results()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (line(0) + line(1) + line(2)[:20], "line 3 is no result"),
        (line(0) + b"[]\n", "line 2 is no result"),
        (line(0) + b"{}\n", "line 2 is no result"),
        (b"\xff\n", "line 1 is no result"),
        (b"[" * 100_000, "line 1 is no result"),
        (line(0) + line(1), "it has 2 lines instead of 3"),
        (b"", "it has 0 lines instead of 3"),
    ],
)
def test_damage(task, data, words):
    path = task.outputs / "output.jsonl"
    path.write_bytes(data)
    with pytest.raises(TaskConflict) as caught:
        list(task.results())
    assert str(caught.value) == f"{path} is damaged: {words}"
    assert "batch_infer -validate A -repair" in str(caught.value.hints[0])


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "it is not there"),
        (os.mkdir, "it is a folder"),
        (os.mkfifo, "it is a pipe"),
        (lambda path: path.symlink_to("target"), "it is a link"),
    ],
)
def test_what_is_no_file(task, make, words):
    make(task.outputs / "output.jsonl")
    (task.outputs / "target").write_bytes(b"".join(map(line, range(3))))
    with pytest.raises(TaskConflict, match=words):
        next(task.results())
