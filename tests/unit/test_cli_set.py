"""-set, and settings beside -pipeline and -resume: grammar, what is sent, texts, JSON, exit codes."""

import json

import pytest
from cli_fakes import Cli, FakePeer, not_there, summary

from batch_infer.cli.parser import parse
from batch_infer.cli.request import Request
from batch_infer.cli.settings import settings_params
from batch_infer.protocol.errors import (
    ConfigError,
    DaemonUnavailable,
    InternalError,
    TaskConflict,
    TaskIdError,
    UsageError,
)
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace
from batch_infer.render.setting_text import runs

CHANGES = [
    {"key": "concurrency", "from": 64, "to": 128},
    {"key": "rpm", "from": 600, "to": None},
    {"key": "bytes_in_flight", "from": 64 * 2**20, "to": 2**20},
]


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    return Workspace(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "-set A B rpm=5 priority=-2 -json",
        "-set rpm=5 A priority=-2 B -json",
        "-set A -json rpm=5 B priority=-2",
        "-json -set=A B rpm=5 priority=-2",
    ],
)
def test_ids_and_settings_in_any_order(line):
    request = parse(line.split())
    assert request._replace(settings=()) == Request("set", ids=("A", "B"), as_json=True)
    assert request.settings == ("rpm=5", "priority=-2")


def test_flags_become_settings():
    request = parse(
        ["-pipeline", "i", "-task-id", "A", "-processes", "4", "-priority", "-3", "-mode=threading"]
    )
    assert request == Request(
        "pipeline", ids=("A",), input="i", settings=("mode=threading", "processes=4", "priority=-3")
    )
    assert parse(["-resume", "A", "-concurrency", "7"]).settings == ("concurrency=7",)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("-set A", UsageError, "-set needs a value"),
        ("-set", TaskIdError, "task-id must not be empty"),
        ("-set rpm=5", TaskIdError, "task-id must not be empty"),
        ("-pipeline i -task-id A -processes", UsageError, "-processes needs a value"),
        ("-status A -processes 3", UsageError, "-processes and -status do not go together"),
        ("-set A rpm=5 -mode threading", UsageError, "-mode and -set do not go together"),
    ],
)
def test_what_does_not_go(line, kind, message):
    with pytest.raises(kind, match=message):
        parse(line.split())


def changed(params, changes=CHANGES, **more):
    assert params["settings"]
    return {"state": "running", "changes": changes, "warnings": [], **more}


def test_what_changed_is_printed(ws):
    peer = FakePeer({"set_options": changed})
    cli = Cli(ws, [peer])
    assert cli("-set", "demo", "concurrency=128", "rpm=none", "bytes-in-flight=1MiB") == 0
    assert peer.asked("set_options") == [
        {
            "task_id": "demo",
            "settings": {"concurrency": "128", "rpm": "none", "bytes_in_flight": "1MiB"},
        }
    ]
    assert cli.stdout.splitlines() == [
        "task demo: concurrency 64 -> 128",
        "task demo: rpm 600 -> no limit",
        "task demo: bytes_in_flight 64.0 MiB -> 1.0 MiB",
    ]


def test_a_folder_is_one_of_the_shell(ws, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = [{"key": "log_dir", "from": None, "to": "/x"}]
    peer = FakePeer({"set_options": lambda params: changed(params, changes)})
    cli = Cli(ws, [peer])
    assert cli("-set", "demo", "log-dir=a/../b", "log_level=debug") == 0
    sent = {"log_dir": str(tmp_path / "b"), "log_level": "debug"}
    assert peer.asked("set_options") == [{"task_id": "demo", "settings": sent}]
    assert cli.stdout == "task demo: log_dir logs of the workspace -> /x\n"
    flags = parse(["-resume", "A", "-log-dir", "b", "-log-level", "debug"]).settings
    assert settings_params(flags) == {"settings": sent}


def test_in_chinese(ws):
    cli = Cli(ws, [FakePeer({"set_options": changed})], lang="zh")
    assert cli("-set", "demo", "rpm=null") == 0
    assert "任务“demo”：rpm 600 -> 不限" in cli.stdout


def test_nothing_to_change_and_a_warning(ws):
    warnings = [Text("mind").to_wire()]
    cli = Cli(ws, [FakePeer({"set_options": lambda p: changed(p, [], warnings=warnings)})])
    assert cli("-set", "demo", "rpm=5") == 0
    assert cli.stdout == "task demo: nothing to change\n"
    assert cli.stderr == "warning: mind\n"


def test_json(ws):
    warnings = [Text("mind").to_wire()]
    cli = Cli(ws, [FakePeer({"set_options": lambda p: changed(p, CHANGES[:1], warnings=warnings)})])
    assert cli("-set", "demo", "concurrency=128", "-json") == 0
    assert json.loads(cli.stdout) == {
        "schema": 1,
        "tasks": [
            {
                "task_id": "demo",
                "state": "running",
                "changes": CHANGES[:1],
                "warnings": ["mind"],
                "error": None,
            }
        ],
    }


def test_one_that_cannot_be_does_not_spare_the_others(ws):
    def answer(params):
        if params["task_id"] == "gone":
            return not_there(params)
        if params["task_id"] == "done":
            return TaskConflict(Text("the settings of the task done cannot be changed"))
        return changed(params, CHANGES[:1])

    cli = Cli(ws, [FakePeer({"set_options": answer})])
    assert cli("-set", "gone", "done", "demo", "concurrency=128", "-json") == 3
    assert [(task["task_id"], task["error"]) for task in json.loads(cli.stdout)["tasks"]] == [
        ("gone", "task_not_found"),
        ("done", "task_conflict"),
        ("demo", None),
    ]


def test_an_unexpected_error_of_one_spares_the_others_and_the_worst_code_counts(ws):
    def answer(params):
        if params["task_id"] == "broken":
            return InternalError(Text("a bug"), hints=(Text("see the log"),))
        if params["task_id"] == "gone":
            return not_there(params)
        return changed(params, CHANGES[:1])

    for ids in (("demo", "broken", "gone", "other"), ("broken", "gone", "demo", "other")):
        cli = Cli(ws, [FakePeer({"set_options": answer})])
        assert cli("-set", *ids, "concurrency=128", "-json") == 4
        found = {task["task_id"]: task["error"] for task in json.loads(cli.stdout)["tasks"]}
        assert found == {"demo": None, "broken": "internal", "gone": "task_not_found", "other": None}
        cli = Cli(ws, [FakePeer({"set_options": answer})])
        assert cli("-set", *ids, "concurrency=128") == 4
        assert [line.split(":")[0] for line in cli.stdout.splitlines()] == ["task demo", "task other"]
        assert "error: task broken: a bug\nhint: see the log\n" in cli.stderr
        assert "error: there is no task gone in /ws\n" in cli.stderr


def test_a_daemon_that_ends_meanwhile_is_not_waited_for_again(ws):
    ended = DaemonUnavailable(Text("it has ended"))
    answers = iter([changed({"settings": 1}, CHANGES[:1]), ended, ended])
    peer = FakePeer({"set_options": lambda _: next(answers)})
    cli = Cli(ws, [peer])
    assert cli("-set", "demo", "other", "third", "concurrency=128", "-json") == 4
    found = [(task["task_id"], task["error"]) for task in json.loads(cli.stdout)["tasks"]]
    assert found == [("demo", None), ("other", "daemon_unavailable"), ("third", "daemon_unavailable")]
    assert peer.patience == {"set_options": 5.0}


def test_wrong_settings_end_it_with_all_problems(ws):
    problems = (Text("one"), Text("two"))
    error = ConfigError(Text("the settings have errors"), problems=problems)
    cli = Cli(ws, [FakePeer({"set_options": lambda _: error})])
    assert cli("-set", "demo", "other", "rmp=5") == 2
    assert cli.stderr.splitlines() == ["error: the settings have errors", "one", "two"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["rpm=5", "rpm=6"], "rpm is given twice"), (["=5"], "'=5' has no key before its equals sign")],
)
def test_what_is_wrong_before_anybody_is_asked(ws, words, message):
    peer = FakePeer({})
    cli = Cli(ws, [peer])
    assert cli("-set", "demo", *words) == 2
    assert message in cli.stderr
    assert peer.calls == []


def test_no_daemon_and_no_task(tmp_path):
    cli = Cli(Workspace(tmp_path), [])
    assert cli("-set", "demo", "rpm=5") == 3


def test_resume_sends_them(ws):
    peer = FakePeer({"resume": lambda _: {"state": "running", "reason": None, "warnings": []}})
    assert Cli(ws, [peer])("-resume", "demo", "-concurrency", "7", "-mode", "asyncio") == 0
    (sent,) = peer.asked("resume")
    assert sent["settings"] == {"concurrency": "7", "mode": "asyncio"}


def test_how_a_task_runs_in_words():
    task = summary()
    assert runs(task, "en") == "multiprocessing × 4, 64 calls at first (at most 1,024), priority 1"
    assert runs(task, "zh") == "multiprocessing × 4，起步并发 64（最多 1,024），优先级 1"
    own = task["execution"] | {"mode": "asyncio", "processes": 1, "priority": 0, "rpm": 600, "tpm": 90_000}
    assert runs(summary(execution=own), "en") == (
        "asyncio, 64 calls at first (at most 1,024), 600 requests a minute, 90,000 tokens a minute"
    )
    assert runs(summary(state="completed"), "en") == ""
    assert runs(summary(backend="batch"), "en") == ""
    task.pop("execution")  # a daemon of an earlier version
    assert runs(task, "en") == ""


def test_the_status_shows_it(ws):
    page = summary(chunks=[], next=None)
    cli = Cli(ws, [FakePeer({"status": lambda _: page})])
    cli("-status", "demo")
    assert "multiprocessing × 4, 64 calls at first (at most 1,024), priority 1" in cli.stdout
