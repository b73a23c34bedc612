"""-logs: which file it reads, and that following it loses no line."""

import json

import pytest
from cli_fakes import Cli, FakePeer, ended, not_there, summary

from batch_infer.cli.log_files import find_log, newest_log, read_lines, rotated
from batch_infer.protocol.workspace import Workspace

NAME = "demo_20260202_120000.log"


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    return Workspace(tmp_path)


def write(ws, name, text):
    (ws.logs / name).write_text(text, encoding="utf-8")


def test_the_newest_of_exactly_that_id(ws):
    names = [
        NAME,
        "demo_20260101_120000.log",
        "demo_20260303_120000_20260101_000000.log",
        "demo2_20260303_120000.log",
        "demo_20260303_120000.txt",
        "daemon.log",
    ]
    for name in names:
        write(ws, name, "")
    assert newest_log(ws.logs, "demo") == ws.logs / NAME
    assert newest_log(ws.logs, "dem") is None
    assert newest_log(ws.root / "none", "demo") is None


@pytest.mark.parametrize(
    "kept",
    ["{", "[]", "{}", '{"config": {"logging": 1}}', '{"config": {"logging": {"dir": null}}}'],
)
def test_without_another_folder_it_is_that_of_the_workspace(ws, kept):
    write(ws, NAME, "")
    (ws.chunks / "demo" / "config.json").write_text(kept)
    assert find_log(ws, "demo") == ws.logs / NAME


def test_in_the_folder_that_the_config_names(ws, tmp_path):
    write(ws, NAME, "")
    other = tmp_path / "other"
    (ws.chunks / "demo" / "config.json").write_text(json.dumps({"config": {"logging": {"dir": str(other)}}}))
    assert find_log(ws, "demo") == ws.logs / NAME, "nothing was written there yet"
    other.mkdir()
    (other / NAME).touch()
    assert find_log(ws, "demo") == other / NAME


def test_rotated_parts_come_first(ws):
    write(ws, NAME, "4\n5\n")
    write(ws, f"{NAME}.1", "2\n3\n")
    write(ws, f"{NAME}.2", "1\n")
    cli = Cli(ws, [])
    assert cli("-logs", "demo") == 0
    assert cli.stdout == "1\n2\n3\n4\n5\n"


def test_json(ws):
    write(ws, NAME, "一\ntwo\n")
    cli = Cli(ws, [])
    assert cli("-logs", "demo", "-json") == 0
    assert [json.loads(line)["line"] for line in cli.stdout.splitlines()] == ["一", "two"]


def test_no_log(ws):
    cli = Cli(ws, [])
    assert cli("-logs", "demo") == 0
    assert "the task demo has no log" in cli.stderr
    assert cli("-logs", "nope") == 3
    assert cli("-logs", "../x") == 3


def test_follow(ws):
    path = ws.logs / NAME
    write(ws, NAME, "1\n2")
    cli = Cli(ws, [])

    def append(text):
        with path.open("a") as file:
            file.write(text)

    def rotate():
        append("4\n")
        path.rename(f"{path}.1")
        write(ws, NAME, "5\n")

    def interrupt():
        raise KeyboardInterrupt

    steps = iter([lambda: None, lambda: append("\n3\n"), rotate, lambda: append("6\n"), interrupt])
    cli.set(sleep=lambda _: next(steps)())
    with pytest.raises(KeyboardInterrupt):
        cli("-logs", "demo", "-follow")
    assert cli.stdout == "1\n2\n3\n4\n5\n6\n"


@pytest.mark.parametrize("end", ["ended", "gone", "removed"])
def test_following_ends_with_the_task(ws, end):
    write(ws, NAME, "1\n")
    states = iter([summary(), ended() if end == "ended" else not_there({"task_id": "demo"})])

    def status(_):
        state = next(states)
        return state | {"chunks": [], "next": None} if isinstance(state, dict) else state

    cli = Cli(ws, [FakePeer({"status": status})])
    if end == "removed":
        cli.peers = []
        (ws.chunks / "demo").rmdir()
    assert cli("-logs", "demo", "-follow") == 0
    assert cli.stdout == "1\n"
    said = "task demo completed; this is the end of its log" if end == "ended" else "demo is gone"
    assert said in cli.stderr


def test_long_lines_and_bytes_that_are_no_text(ws):
    path = ws.logs / NAME
    path.write_bytes(b"x" * 200_000 + b"\n\xff\n")
    lines = [line for part, _ in read_lines(path, None) for line in part]
    assert lines == ["x" * 200_000, "\ufffd"]


def test_a_log_that_went_away(ws):
    assert list(read_lines(ws.logs / NAME, None)) == []
    assert rotated(ws.logs / NAME) == []
