"""-list, -status, -cancel, -pause, -resume, -retry, -daemon, -version: requests, texts, JSON, exit codes."""

import json

import pytest
from cli_fakes import NOW, Cli, FakePeer, ended, not_there, reason, summary

from batch_infer.protocol.errors import ConfigError, DaemonUnavailable, InternalError, TaskConflict
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace
from batch_infer.render.columns import width
from batch_infer.render.task_fields import progress
from batch_infer.version import __version__

STATUS = {
    "pid": 4711,
    "version": "0.1.0",
    "started": NOW,
    "workspace": "/ws",
    "protocol": [1, 1],
    "busy": True,
    "tasks": {"running": 2, "paused": 0, "completed": 1},
    "cpu": 3.0,
    "rss": 1024,
    "workers": [],
}


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    return Workspace(tmp_path)


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def tasks(*summaries):
    return {"list": lambda _: {"tasks": list(summaries), "next": None}}


class TestList:
    def test_columns_align_with_chinese_ids(self, ws):
        cli = Cli(
            ws,
            [
                FakePeer(
                    tasks(summary("任务一"), ended("b"), summary("c", state="paused", reason=reason("auth")))
                )
            ],
        )
        assert cli("-list") == 0
        head, *rows = cli.stdout.splitlines()
        assert head.split() == [
            "TASK",
            "STATE",
            "DONE",
            "INPUT",
            "ANSWERED",
            "ERRORS",
            "MISSING",
            "RATE",
            "LEFT",
        ]
        assert [row.split()[:2] for row in rows] == [
            ["任务一", "running"],
            ["b", "completed"],
            ["c", "paused"],
        ]
        assert rows[2].split()[2] == "(auth)"
        right_edge_of_input = head.index("INPUT") + len("INPUT")
        assert all(width(row.partition("300")[0] + "300") == right_edge_of_input for row in rows)

    def test_pages_are_joined(self, ws):
        pages = {None: (["a", "b"], "b"), "b": (["c"], None)}
        peer = FakePeer(
            {
                "list": lambda p: {
                    "tasks": [summary(n) for n in pages[p["cursor"]][0]],
                    "next": pages[p["cursor"]][1],
                }
            }
        )
        cli = Cli(ws, [peer])
        assert cli("-list", "-json") == 0
        assert [task["task_id"] for task in json.loads(cli.stdout)["tasks"]] == ["a", "b", "c"]

    def test_a_guess_is_marked(self, ws):
        cli = Cli(ws, [FakePeer(tasks(summary(input_complete=False, expected=98_765)))])
        cli("-list")
        assert "~98,765" in cli.stdout

    def test_what_was_counted_is_no_guess(self, ws):
        counted = summary(input_complete=False, expected=98_765, expected_exact=True)
        cli = Cli(ws, [FakePeer(tasks(counted))])
        cli("-list")
        assert " 98,765" in cli.stdout
        assert " of 98,765" in progress(counted, "en")

    def test_nothing_there(self, empty):
        cli = Cli(Workspace(empty), [])
        assert cli("-list") == 0
        assert cli.stdout == ""
        assert cli("-list", "-json") == 0
        assert json.loads(cli.stdout) == {"schema": 1, "tasks": []}
        assert list(empty.iterdir()) == []

    def test_a_daemon_is_started_for_tasks_that_stand_there(self, ws):
        peer = FakePeer(tasks(summary()))
        cli = Cli(ws, [peer])
        cli.set(find=lambda _: None)
        assert cli("-list") == 0
        assert "demo" in cli.stdout


class TestStatus:
    def chunks(self, states):
        counts = {"input": 10, "output": 9, "error": 1, "missing": 0, "pending": 0, "blank": 0}
        return [{"chunk": n, "state": s, "counts": counts, "retries": 2} for n, s in enumerate(states, 1)]

    def peer(self, states, page=1000, **changes):
        rows = self.chunks(states)

        def answer(params):
            start = params["cursor"] or 0
            part = rows[start : start + min(page, params["limit"])]
            following = part[-1]["chunk"] if start + len(part) < len(rows) else None
            histogram = {state: states.count(state) for state in ("ready", "leased", "done")}
            return summary(chunk_states=histogram, **changes) | {"chunks": part, "next": following}

        return FakePeer({"status": answer})

    def test_one_task(self, ws):
        cli = Cli(ws, [self.peer(["done", "leased", "ready"], left_out=5, left_out_exact=False)])
        assert cli("-status", "demo") == 0
        lines = dict(line.split(maxsplit=1) for line in cli.stdout.split("\n\n")[0].splitlines())
        assert lines["state"] == "running"
        assert lines["progress"] == "41.0% · 123 of 300 · 35.2/s · 0:00:05 left"
        assert lines["records"] == (
            "answered 120, errors 3, missing 0, pending 177, retries 7, blank lines 2, "
            "left out by test_lines at least 5"
        )
        assert lines["chunks"] == "ready 1, in work 1, done 1"
        assert lines["tokens"] == "1,200 in, 3,400 out"
        assert lines["requests"] == "64 in flight, at most 128 at once"
        assert lines["model"] == "test-model @ http://127.0.0.1:1/v1"
        table = [line.split() for line in cli.stdout.split("\n\n")[1].splitlines()]
        assert table[0][:2] == ["CHUNK", "STATE"]
        assert table[1] == ["1", "done", "10", "9", "1", "0", "0", "2"]

    def test_what_to_do_next(self, ws):
        cli = Cli(ws, [self.peer(["ready"], state="paused", reason=reason("auth"))])
        assert cli("-status", "demo") == 0
        assert "hint: once the config is fixed: batch_infer -resume demo -config FILE" in cli.stderr

    def test_many_chunks_show_those_that_are_not_done(self, ws):
        cli = Cli(ws, [self.peer(["done"] * 2500 + ["ready"] * 500)])
        assert cli("-status", "demo") == 0
        numbers = [line.split()[0] for line in cli.stdout.split("\n\n")[1].splitlines()[1:]]
        assert numbers == [str(n) for n in range(2501, 2521)]
        assert "2,980 more chunks are shown by: batch_infer -status demo -json" in cli.stderr

    def test_json_has_every_chunk(self, ws):
        cli = Cli(ws, [self.peer(["done"] * 2500)])
        assert cli("-status", "demo", "-json") == 0
        shown = json.loads(cli.stdout)
        assert [chunk["chunk"] for chunk in shown["chunks"]] == list(range(1, 2501))
        assert list(shown)[:5] == ["schema", "task_id", "state", "reason", "reason_text"]
        assert shown["counts"]["pending"] == 177

    def test_no_such_task(self, ws, empty):
        assert Cli(ws, [FakePeer({"status": not_there})])("-status", "nope") == 3
        cli = Cli(Workspace(empty), [])
        assert cli("-status", "demo") == 3
        assert "error: there is no task demo in" in cli.stderr
        assert cli("-status", "../chunks") == 3

    def test_daemon_and_all_tasks(self, ws):
        peer = FakePeer(
            {"daemon.status": lambda _: STATUS, **tasks(summary(state="paused", reason=reason("auth")))}
        )
        cli = Cli(ws, [peer])
        assert cli("-status") == 0
        assert "the daemon runs: pid 4711, version 0.1.0" in cli.stdout
        assert "tasks: running 2, completed 1" in cli.stdout
        assert "paused: because" in cli.stdout
        cli = Cli(ws, [peer])
        assert cli("-status", "-json") == 0
        shown = json.loads(cli.stdout)
        assert (shown["daemon"]["running"], shown["daemon"]["pid"]) == (True, 4711)

    def test_nothing_at_all(self, empty):
        cli = Cli(Workspace(empty), [])
        assert cli("-status") == 0
        assert "no daemon runs in the workspace" in cli.stderr
        assert cli("-status", "-json") == 0
        assert json.loads(cli.stdout) == {"schema": 1, "daemon": {"running": False}, "tasks": []}


class TestCancel:
    def peer(self):
        def cancel(params):
            if params["task_id"] == "done":
                return TaskConflict(Text("the task has ended"))
            if params["task_id"] == "slow":
                return {"state": "running", "cancelling": True}
            return {"state": "cancelled"} if params["task_id"] == "A" else not_there(params)

        return FakePeer({"cancel": cancel})

    def test_several(self, ws):
        cli = Cli(ws, [self.peer()])
        assert cli("-cancel", "A", "slow", "A") == 0
        assert cli.stdout == "task A: cancelled\ntask slow: being cancelled\n"

    def test_one_that_cannot_be_does_not_spare_the_others(self, ws):
        cli = Cli(ws, [self.peer()])
        assert cli("-cancel", "nope", "done", "A", "-json") == 3
        assert cli.stderr.count("error: ") == 2
        assert json.loads(cli.stdout)["tasks"] == [
            {"task_id": "nope", "state": None, "error": "task_not_found"},
            {"task_id": "done", "state": None, "error": "task_conflict"},
            {"task_id": "A", "state": "cancelled", "error": None},
        ]

    @pytest.mark.parametrize(
        ("error", "code"),
        [(InternalError(Text("a bug")), 4), (DaemonUnavailable(Text("no answer within 60 s")), 4)],
    )
    def test_an_unexpected_error_does_not_spare_the_others_either(self, ws, error, code):
        peer = self.peer()
        peer.handlers["cancel"] = lambda params: (
            error if params["task_id"] == "odd" else {"state": "cancelled"}
        )
        cli = Cli(ws, [peer])
        assert cli("-cancel", "A", "odd", "B", "-json") == code
        assert f"task odd: {error.text}" in cli.stderr
        assert [(task["task_id"], task["error"]) for task in json.loads(cli.stdout)["tasks"]] == [
            ("A", None), ("odd", error.code), ("B", None),
        ]  # fmt: skip

    def test_an_empty_workspace(self, empty):
        assert Cli(Workspace(empty), [])("-cancel", "A") == 3
        assert list(empty.iterdir()) == []


class TestSteer:
    def test_pause(self, ws):
        cli = Cli(ws, [FakePeer({"pause": lambda _: {"state": "paused"}})])
        assert cli("-pause", "demo") == 0
        assert cli.stdout == "task demo: paused\n"

    def test_resume_sends_the_proxies(self, ws):
        peer = FakePeer({"resume": lambda _: {"state": "running", "reason": None, "warnings": []}})
        cli = Cli(ws, [peer])
        cli.set(environ={"HTTPS_PROXY": "http://p"})
        assert cli("-resume", "demo", "-json") == 0
        assert peer.asked("resume") == [{"task_id": "demo", "proxy": {"https": "http://p"}}]
        assert json.loads(cli.stdout) == {
            "schema": 1,
            "task_id": "demo",
            "state": "running",
            "reason": None,
            "warnings": [],
        }

    def test_resume_with_a_mended_config(self, ws, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mended.yaml").write_text("x")
        warnings = [Text("mind").to_wire()]
        peer = FakePeer(
            {
                "config.variables": lambda _: {"variables": ["KEY"]},
                "resume": lambda _: {"state": "running", "reason": None, "warnings": warnings},
            }
        )
        cli = Cli(ws, [peer])
        cli.set(environ={"KEY": "v"})
        assert cli("-resume", "demo", "-config", "mended.yaml") == 0
        (sent,) = peer.asked("resume")
        assert (sent["env"], sent["config_path"]) == ({"KEY": "v"}, str(tmp_path / "mended.yaml"))
        assert "warning: mind" in cli.stderr

    def test_resume_with_a_config_that_is_not_there(self, ws):
        assert Cli(ws, [])("-resume", "demo", "-config", "none.yaml") == ConfigError.exit_code

    def test_resume_that_cannot_go_on(self, ws):
        answer = {"state": "paused", "reason": reason("credential", "the key is gone"), "warnings": []}
        cli = Cli(ws, [FakePeer({"resume": lambda _: answer})])
        assert cli("-resume", "demo") == 5
        assert cli.stdout == "task demo: paused: the key is gone\n"
        cli = Cli(ws, [FakePeer({"resume": lambda _: answer})])
        cli("-resume", "demo", "-json")
        assert json.loads(cli.stdout)["reason"] == "credential"

    def test_retry(self, ws):
        peer = FakePeer({"retry": lambda _: {"state": "running", "round": 1, "records": 1234}})
        cli = Cli(ws, [peer])
        assert cli("-retry", "demo") == 0
        assert "round 1: 1,234 records are tried again" in cli.stderr
        assert cli.stdout == "task demo: running\n"

    def test_nothing_to_retry(self, ws):
        peer = FakePeer({"retry": lambda _: {"state": "completed", "round": 0, "records": 0}})
        cli = Cli(ws, [peer])
        assert cli("-retry", "demo") == 0
        assert "nothing to try again: task demo has no failed or missing records" in cli.stderr

    def test_retry_and_wait(self, ws):
        peer = FakePeer({"retry": lambda _: {"state": "running", "round": 1, "records": 2}})
        cli = Cli(
            ws,
            [peer, FakePeer(pushes=[summary(round=1), ended(round=1, counts={"output": 299, "error": 1})])],
        )
        assert cli("-retry", "demo", "-wait") == 1
        assert "error_retry1.jsonl (1 line)" in cli.stdout

    def test_a_conflict(self, ws):
        error = TaskConflict(Text("it is running"), hints=(Text("wait"),))
        cli = Cli(ws, [FakePeer({"retry": lambda _: error})])
        assert cli("-retry", "demo") == 3
        assert cli.stderr == "error: it is running\nhint: wait\n"


class TestDaemon:
    def test_start_and_status(self, ws):
        for action in ("start", "status"):
            cli = Cli(ws, [FakePeer({"daemon.status": lambda _: STATUS})])
            assert cli("-daemon", action) == 0
            assert "the daemon runs: pid 4711" in cli.stdout
            cli = Cli(ws, [FakePeer({"daemon.status": lambda _: STATUS})])
            assert cli("-daemon", action, "-json") == 0
            assert json.loads(cli.stdout) == {"schema": 1, "running": True, **STATUS}

    def test_none(self, ws):
        cli = Cli(ws, [])
        assert cli("-daemon", "status") == 4
        assert "no daemon runs" in cli.stderr
        assert cli("-daemon", "stop") == 0
        assert cli("-daemon", "status", "-json") == 4
        assert json.loads(cli.stdout) == {"schema": 1, "running": False}

    def test_stop(self, ws):
        peer = FakePeer({"daemon.stop": lambda _: {"stopping": True}})
        cli = Cli(ws, [peer])
        assert cli("-daemon", "stop") == 0
        assert "the daemon has ended" in cli.stdout
        assert peer.closed

    def test_stop_that_takes_too_long(self, ws):
        class Stuck(FakePeer):
            def wait_closed(self, timeout):
                return False

        cli = Cli(ws, [Stuck({"daemon.stop": lambda _: {"stopping": True}})])
        assert cli("-daemon", "stop") == 4
        assert "has not ended after 120 s" in cli.stderr


def test_version(ws):
    cli = Cli(ws, [])
    assert cli("-version") == 0
    assert cli.stdout == f"batch_infer {__version__}\n"
    cli = Cli(ws, [])
    assert cli("-version", "-json") == 0
    assert json.loads(cli.stdout) == {"schema": 1, "version": __version__, "protocol": [1, 1]}


def test_no_words_at_all_show_the_help_as_an_error(ws):
    cli = Cli(ws, [])
    assert cli() == 2
    assert cli.stdout == ""
    assert "Usage:" in cli.stderr


def test_run_becomes_a_daemon_that_speaks_the_language_of_the_shell(ws, monkeypatch):
    class BecameError(Exception):
        pass

    became = []

    def become(*words):
        became.append(words)
        raise BecameError

    monkeypatch.setattr("os.execve", become)
    cli = Cli(ws, [], lang="zh")
    cli.set(environ={"PATH": "/bin", "http_proxy": "http://p:1"})
    with pytest.raises(BecameError):
        cli("-daemon", "run")
    ((_, command, environ),) = became
    assert command[-3:] == ["--workspace", str(ws.root), "--foreground"]
    assert environ["BATCH_INFER_LANG"] == "zh"
    assert "http_proxy" not in environ
