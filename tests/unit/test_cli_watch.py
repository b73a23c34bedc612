"""-monitor and the watching behind -wait and -follow: changes, ends, lost connections."""

import json

import pytest
from cli_fakes import NOW, Cli, FakePeer, ended, not_there, reason, summary

from batch_infer.protocol.errors import DaemonUnavailable, TaskNotFound
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace

LOST = DaemonUnavailable(Text("gone"))


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    return Workspace(tmp_path)


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def status(task):
    return {"status": lambda _: task | {"chunks": [], "next": None}}


DAEMON = {
    "pid": 4711,
    "version": "0.1.0",
    "started": NOW - 60,
    "tasks": {"running": 1},
    "cpu": 12.0,
    "rss": 60 * 1024**2,
    "workers": [{"pid": 4712, "cpu": 80.4, "rss": 50 * 1024**2}],
}


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (ended(), 0),
        (ended(counts={"output": 299, "error": 1}), 1),
        (ended(counts={"output": 299, "missing": 1}), 1),
        (ended(state="failed", reason=reason("identity")), 5),
        (ended(state="cancelled"), 5),
        (summary(state="paused", reason=reason("user")), 5),
    ],
)
@pytest.mark.parametrize("form", [[], ["-json"]])
def test_the_exit_code_is_that_of_the_end(ws, last, code, form):
    cli = Cli(ws, [FakePeer(), FakePeer(pushes=[summary(), last])])
    assert cli("-monitor", "demo", *form) == code


def test_a_task_that_has_ended_already(ws):
    cli = Cli(ws, [FakePeer(pushes=[ended()])])
    assert cli("-monitor", "demo") == 0
    assert "task demo completed" in cli.stdout


def test_lines_come_at_each_change_of_state_and_every_two_seconds(ws):
    cli = Cli(ws, [FakePeer(), FakePeer()])
    waiting = [{"code": "network", "text": Text("no route").to_wire(), "since": None, "next_try": None}]
    routine = [{"code": "rate_limit", "text": Text("429").to_wire(), "since": None, "next_try": None}]

    def pushes():
        yield summary(state="preparing", share=0.0)
        for share in (0.1, 0.2, 0.3):  # too soon for a line
            yield summary(state="preparing", share=share, waiting=routine)
        yield summary(share=0.4)
        yield summary(share=0.5, waiting=waiting)
        cli.time.t += 1.9
        yield summary(share=0.6, waiting=waiting)
        cli.time.t += 0.2
        yield summary(share=0.7, waiting=waiting)
        yield ended()

    cli.peers[1].pushes = pushes()
    assert cli("-monitor", "demo") == 0
    lines = [line for line in cli.stdout.splitlines() if "  demo  " in line]
    assert [line.split("  demo  ")[1].split(" · ")[:2] for line in lines] == [
        ["preparing", "0.0%"],
        ["running", "40.0%"],
        ["running", "70.0%"],
        ["completed", "100.0%"],
    ]
    assert lines[2].endswith("waiting: no route")


@pytest.mark.parametrize("form", [[], ["-json"]])
def test_a_line_comes_when_something_changes_and_once_a_minute(ws, form):
    cli = Cli(ws, [FakePeer(), FakePeer()])

    def pushes():
        yield summary(in_flight=0)
        for number in range(1, 130):
            cli.time.t += 1
            yield summary(in_flight=number, rate_per_s=number / 10)
        cli.time.t += 1
        yield summary(counts={"output": 121, "pending": 176})
        yield ended()

    cli.peers[1].pushes = pushes()
    assert cli("-monitor", "demo", *form) == 0
    progress = [line for line in cli.stdout.splitlines() if "  demo  " in line or line.startswith("{")]
    assert len(progress) == 5  # the first, two minutes, the change, the end


def test_a_silent_wait_says_a_reason_once(ws):
    last = summary(state="paused", reason=reason("auth", "the key is refused"))
    cli = Cli(ws, [FakePeer({"retry": lambda _: {"state": "running", "round": 1, "records": 1}})])
    cli.peers.append(FakePeer(pushes=[summary(), last]))
    assert cli("-retry", "demo", "-wait") == 5
    assert (cli.stdout + cli.stderr).count("the key is refused") == 1


def test_lines_that_are_no_input_are_not_tried_again(ws):
    (ws.root / "report.json").write_text(
        '{\n  "round": 0,\n  "errors": {\n    "invalid_input": 2\n  },\n'
        '  "chunks": [\n    {"chunk": 1}\n  ]\n}\n'
    )
    last = ended(counts={"output": 298, "error": 2}, outputs=str(ws.root))
    cli = Cli(ws, [FakePeer(), FakePeer(pushes=[last])])
    assert cli("-monitor", "demo") == 1
    assert f"{ws.root}/error_retry0.jsonl" in cli.stderr
    assert "-retry" not in cli.stderr
    (ws.root / "report.json").write_text("nonsense")
    cli = Cli(ws, [FakePeer(), FakePeer(pushes=[last])])
    assert cli("-monitor", "demo") == 1
    assert "batch_infer -retry demo" in cli.stderr


def test_json_lines_carry_the_load(ws):
    load = {key: DAEMON[key] for key in ("cpu", "rss", "workers")}
    cli = Cli(ws, [FakePeer(), FakePeer(pushes=[{"tasks": [summary()], "daemon": load}, ended()])])
    assert cli("-monitor", "demo", "-json") == 0
    first, last = map(json.loads, cli.stdout.splitlines())
    assert list(first)[:11] == [
        *("schema", "task_id", "state", "reason", "reason_text", "counts", "retries"),
        *("rate_per_s", "eta_s", "cost", "backend"),
    ]
    assert first["daemon"] == last["daemon"] == load


def test_a_crashed_daemon_is_started_again_and_nothing_is_missed(ws):
    peers = [FakePeer(), FakePeer(pushes=[summary(), LOST]), FakePeer(pushes=[ended()])]
    cli = Cli(ws, peers)
    assert cli("-monitor", "demo") == 0
    assert peers[1].closed
    assert peers[2].asked("subscribe") == [{"tasks": ["demo"]}]
    assert "note: the connection to the daemon was lost; connecting again" in cli.stderr
    assert "note: connected again" in cli.stderr


def test_a_daemon_that_cannot_be_started_again(ws):
    cli = Cli(ws, [FakePeer(), FakePeer(pushes=[summary(), LOST]), DaemonUnavailable(Text("no disk"))])
    assert cli("-monitor", "demo") == 4
    assert "error: no disk" in cli.stderr


def test_a_daemon_that_crashes_again_and_again(ws):
    peers = [FakePeer(pushes=[summary(), LOST]) for _ in range(20)]
    cli = Cli(ws, peers)
    assert cli("-monitor", "demo") == 4
    assert "the daemon ended 6 times within a minute" in cli.stderr


def test_crashes_that_are_far_apart_are_endured(ws):
    cli = Cli(ws, [])

    def pushes():
        yield summary()
        cli.time.t += 20
        raise LOST

    cli.peers = [FakePeer(pushes=pushes()) for _ in range(12)] + [FakePeer(pushes=[ended()])]
    assert cli("-monitor", "demo") == 0


def test_a_stopped_daemon_is_not_started_but_waited_for(ws):
    back = FakePeer(pushes=[ended()])
    cli = Cli(ws, [FakePeer(), FakePeer(pushes=[summary(), LOST])])
    found = iter([None, None, back])
    looks = []

    def find(_):
        if not looks:
            looks.append("-monitor asks whether a daemon is there")
            return cli.peers.pop(0)
        looks.append("again")
        return next(found)

    cli.set(find=find, stopped=lambda _: True)
    assert cli("-monitor", "demo") == 0
    assert len(looks) == 4
    assert "the daemon was stopped; waiting for it to come back" in cli.stderr


def test_a_stopped_daemon_that_does_not_come_back(ws):
    cli = Cli(ws, [FakePeer(pushes=[summary(), LOST])])
    cli.set(find=lambda _: None, stopped=lambda _: True)
    assert cli("-monitor", "demo") == 4
    assert sum(cli.time.slept) == 10
    assert "hint: unfinished tasks go on when it runs again: batch_infer -daemon start" in cli.stderr


def test_a_task_that_is_removed_meanwhile(ws):
    cli = Cli(ws, [FakePeer(), FakePeer(pushes=[summary(), {"task_id": "demo", "gone": True}])])
    assert cli("-monitor", "demo") == 3
    assert "the task demo is gone: its folder was removed" in cli.stderr


def test_an_unknown_task(ws):
    error = TaskNotFound(Text("no such"))
    cli = Cli(ws, [FakePeer(pushes=[error])])
    assert cli("-monitor", "nope") == 3


def test_ctrl_c_says_that_the_task_goes_on(ws):
    cli = Cli(ws, [FakePeer(pushes=[summary(), KeyboardInterrupt])])
    assert cli("-monitor", "demo") == 130
    assert "task demo goes on running" in cli.stderr
    cli = Cli(
        ws,
        [
            FakePeer(
                {"list": lambda _: {"tasks": [summary()], "next": None}},
                pushes=[{"tasks": []}, KeyboardInterrupt],
            )
        ],
    )
    assert cli("-monitor") == 130
    assert "the tasks go on running" in cli.stderr


class TestAll:
    def test_it_ends_with_the_last_unfinished_task(self, ws):
        pages = {None: (["a", "b"], "b"), "b": (["c"], None)}
        done = {"a"}

        def page(params):
            names, following = pages[params["cursor"]]
            return {"tasks": [ended(n) if n in done else summary(n) for n in names], "next": following}

        pushes = [
            {"tasks": [summary("c")]},  # one page of a subscription need not hold all
            ended("c"),
            {"task_id": "b", "gone": True},
        ]
        cli = Cli(ws, [FakePeer({"list": page}, pushes=pushes)])
        assert cli("-monitor") == 0
        shown = [line.split()[1:3] for line in cli.stdout.splitlines()]
        assert shown == [["a", "completed"], ["b", "running"], ["c", "running"], ["c", "completed"]]

    def test_json(self, ws):
        one_page = {"list": lambda _: {"tasks": [summary("a")], "next": None}}
        cli = Cli(ws, [FakePeer(one_page, pushes=[{"tasks": []}, ended("a")])])
        assert cli("-monitor", "-json") == 0
        assert [json.loads(line)["state"] for line in cli.stdout.splitlines()] == ["running", "completed"]

    def test_an_empty_workspace_needs_no_daemon(self, empty):
        for line in (["-monitor"], ["-monitor", "-once"]):
            cli = Cli(Workspace(empty), [])
            assert cli(*line) == 0
            assert "there is no task in the workspace" in cli.stderr
            assert list(empty.iterdir()) == []
        assert Cli(Workspace(empty), [])("-monitor", "demo") == 3


class TestOnce:
    def peer(self, *tasks):
        pages = {"list": lambda _: {"tasks": list(tasks), "next": None}}
        return FakePeer({"daemon.status": lambda _: DAEMON, **status(tasks[0]), **pages})

    def test_one_task(self, ws):
        cli = Cli(ws, [self.peer(summary())])
        assert cli("-monitor", "demo", "-once") == 0
        assert "41.0% · 123 of 300" in cli.stdout
        assert "daemon 12% CPU, 60.0 MiB · workers (1) 80% CPU, 50.0 MiB" in cli.stdout

    def test_one_task_as_json(self, ws):
        cli = Cli(ws, [self.peer(summary(reason=reason("auth"), state="paused"))])
        assert cli("-monitor", "demo", "-once", "-json") == 0
        shown = json.loads(cli.stdout)
        assert (shown["reason"], shown["reason_text"]) == ("auth", "because")
        assert shown["daemon"]["workers"] == DAEMON["workers"]
        assert "chunks" not in shown

    def test_an_end_has_its_exit_code(self, ws):
        assert Cli(ws, [self.peer(ended(state="failed"))])("-monitor", "demo", "-once") == 5

    def test_all(self, ws):
        cli = Cli(ws, [self.peer(summary("a"), summary("任务", state="paused", reason=reason("user")))])
        assert cli("-monitor", "-once") == 0
        assert "paused: because" in cli.stdout
        cli = Cli(ws, [self.peer(summary("a"))])
        assert cli("-monitor", "-once", "-json") == 0
        assert [task["task_id"] for task in json.loads(cli.stdout)["tasks"]] == ["a"]

    def test_unknown(self, ws):
        peer = FakePeer({"daemon.status": lambda _: DAEMON, "status": not_there})
        assert Cli(ws, [peer])("-monitor", "nope", "-once") == 3
