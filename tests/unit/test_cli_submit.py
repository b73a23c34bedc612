"""-pipeline: what is checked here, what is sent, what is printed."""

import base64
import json
import os

import pytest
from cli_fakes import NOW, Cli, FakePeer, ended, reason, summary

from batch_infer.protocol.errors import ConfigError, DaemonUnavailable, TaskExists
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace
from batch_inferd.config.load import parse_config


def accepted(params, **changes):
    answer = {
        "task_id": params["task_id"],
        "uuid": "u-1",
        "state": "preparing",
        "went_on": False,
        "backend": "online",
        "backend_reason": Text("the service has no batches").to_wire(),
        "service": "http://127.0.0.1:1/v1",
        "model": "test-model",
        "warnings": [],
        "notes": [],
        "outputs": "/ws/merged/A",
    }
    return answer | changes


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("{}\n")
    (tmp_path / "config.yaml").write_bytes(b"model: {}\n")
    return Workspace(tmp_path)


def daemon(variables=(), submit=accepted, **handlers):
    return FakePeer(
        {"config.variables": lambda _: {"variables": list(variables)}, "submit": submit, **handlers}
    )


def test_what_is_sent(ws):
    peer = daemon(["KEY"])
    cli = Cli(ws, [peer], lang="zh")
    cli.set(environ={"KEY": "s3cret", "OTHER": "x", "http_proxy": "http://p:1", "NO_PROXY": "localhost"})
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 0
    (sent,) = peer.asked("submit")
    nonce = sent.pop("nonce")
    assert len(nonce) == 32
    int(nonce, 16)
    assert sent == {
        "task_id": "A",
        "input": str(ws.root / "in.jsonl"),
        "lang": "zh",
        "config": base64.b64encode(b"model: {}\n").decode(),
        "config_path": str(ws.root / "config.yaml"),
        "env": {"KEY": "s3cret"},
        "proxy": {"http": "http://p:1", "no": "localhost"},
    }
    asked = {"config": sent["config"], "path": sent["config_path"], "input": sent["input"], "overrides": {}}
    assert peer.asked("config.variables") == [asked]
    assert peer.closed
    assert "s3cret" not in cli.stdout + cli.stderr


def test_what_is_printed(ws):
    warning = Text("mind the {gap}", {"gap": "gap"}).to_wire()
    note = Text("so you know").to_wire()
    cli = Cli(ws, [daemon(submit=lambda p: accepted(p, warnings=[warning, warning], notes=[note]))])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 0
    assert cli.stdout == ""
    assert cli.stderr.count("warning: mind the gap\n") == 1
    assert "note: so you know\n" in cli.stderr
    assert "task A is accepted: test-model at http://127.0.0.1:1/v1\n" in cli.stderr
    assert "backend online: the service has no batches\n" in cli.stderr
    assert "the outputs will be in /ws/merged/A\n" in cli.stderr
    assert "batch_infer -monitor A\n" in cli.stderr


def test_a_batch_api_that_is_not_used_is_told(ws):
    reason = Text(
        "{service} has a Batch API, but this version makes online calls only", {"service": "openai"}
    )
    cli = Cli(ws, [daemon(submit=lambda p: accepted(p, backend_reason=reason.to_wire()))])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 0
    assert "backend online: openai has a Batch API" in cli.stderr


def test_the_same_command_goes_on(ws):
    cli = Cli(ws, [daemon(submit=lambda p: accepted(p, went_on=True, backend_reason=None))])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 0
    assert "task A goes on" in cli.stderr
    assert "None" not in cli.stderr


def test_json_is_one_object(ws):
    cli = Cli(ws, [daemon(submit=lambda p: accepted(p, warnings=[Text("w").to_wire()]))])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-json") == 0
    shown = json.loads(cli.stdout)
    assert shown["schema"] == 1
    assert (shown["task_id"], shown["warnings"]) == ("A", ["w"])
    assert shown["backend_reason"] == "the service has no batches"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the name of the input file is empty"),
        ("none.jsonl", "the input {root}/none.jsonl does not exist"),
        ("/dev/null", "the input /dev/null is not a regular file"),
    ],
)
def test_a_wrong_input_is_told_before_a_daemon_is_asked(ws, name, said):
    cli = Cli(ws, [])
    assert cli("-pipeline", name, "-task-id", "A") == 2
    assert f"error: {said.format(root=ws.root)}\n" in cli.stderr


@pytest.mark.parametrize("task_id", ["a/b", ".hidden", "..", "x" * 129, "a b", "con"])
def test_a_wrong_task_id_is_told_before_a_daemon_is_asked(ws, task_id):
    cli = Cli(ws, [])
    assert cli("-pipeline", "in.jsonl", "-task-id", task_id) == 2
    assert "error: the task-id" in cli.stderr


def test_no_config(ws):
    (ws.root / "config.yaml").unlink()
    cli = Cli(ws, [])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 2
    assert f"error: the config file {ws.root}/config.yaml does not exist\n" in cli.stderr
    lines = cli.stderr.splitlines()
    start = lines.index("model:")
    minimal = "\n".join(lines[start : start + 5])
    assert parse_config(minimal.encode(), "config.yaml").model.domain == "test"
    (ws.root / "config.yaml.example").touch()
    cli = Cli(ws, [])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 2
    assert "cp config.yaml.example config.yaml" in cli.stderr


def test_a_config_that_is_a_folder(ws):
    (ws.root / "configs").mkdir()
    cli = Cli(ws, [])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-config", "configs") == 2
    assert f"hint: name a file in it: -config {ws.root}/configs/config.yaml" in cli.stderr


def test_a_named_config_stands_where_the_shell_is(ws, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "pro.yaml").write_bytes(b"x: 1")
    (elsewhere / "in.jsonl").write_text("{}\n")
    monkeypatch.chdir(elsewhere)
    peer = daemon()
    cli = Cli(ws, [peer])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-config", "pro.yaml") == 0
    assert peer.asked("submit")[0]["config_path"] == str(elsewhere / "pro.yaml")
    assert peer.asked("submit")[0]["input"] == str(elsewhere / "in.jsonl")
    cli = Cli(ws, [])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-config", "none.yaml") == 2
    assert f"{elsewhere}/none.yaml does not exist" in cli.stderr
    assert "cp config.yaml.example" not in cli.stderr


def test_a_config_may_have_256_kib_and_no_more(ws):
    path = ws.root / "config.yaml"
    path.write_bytes(b"#" * 256 * 1024)
    assert Cli(ws, [daemon()])("-pipeline", "in.jsonl", "-task-id", "A") == 0
    path.write_bytes(b"#" * (256 * 1024 + 1))
    cli = Cli(ws, [])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 2
    assert "is larger than 256 KiB" in cli.stderr


def test_the_problems_of_a_config_are_told_one_a_line(ws):
    problems = (Text("config.yaml:7:16: one"), Text("config.yaml:9:1: two"))
    error = ConfigError(Text("the config file {file} has errors", {"file": "config.yaml"}), problems=problems)
    cli = Cli(ws, [FakePeer({"config.variables": lambda _: error})])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 2
    assert cli.stderr.splitlines() == [
        "error: the config file config.yaml has errors",
        "config.yaml:7:16: one",
        "config.yaml:9:1: two",
    ]


def test_a_refusal_of_the_daemon(ws):
    error = TaskExists(Text("the file [{id}] already exists", {"id": "A"}), hints=(Text("a hint"),))
    cli = Cli(ws, [daemon(submit=lambda _: error)])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 3
    assert cli.stderr.splitlines() == ["error: the file [A] already exists", "hint: a hint"]


def test_a_lost_connection_is_tried_once_more_with_the_same_nonce(ws):
    lost = daemon(submit=lambda _: DaemonUnavailable(Text("gone")))
    again = daemon()
    cli = Cli(ws, [lost, again])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 0
    assert lost.asked("submit")[0]["nonce"] == again.asked("submit")[0]["nonce"]
    assert lost.closed
    assert "submitting once more" in cli.stderr


def test_twice_lost_is_an_error(ws):
    peers = [daemon(submit=lambda _: DaemonUnavailable(Text("gone"))) for _ in range(3)]
    cli = Cli(ws, peers)
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 4
    assert [len(peer.asked("submit")) for peer in peers] == [1, 1, 0]


class TestDotEnv:
    """Values come from the environment, else from `.env` beside the config, else of the workspace."""

    def sent(self, ws, names, environ=None):
        peer = daemon(names)
        cli = Cli(ws, [peer])
        cli.set(environ=environ or {})
        config = ws.root / "conf" / "c.yaml"
        config.parent.mkdir(exist_ok=True)
        config.write_text("")
        code = cli("-pipeline", "in.jsonl", "-task-id", "A", "-config", str(config))
        return (peer.asked("submit") or [{"env": code}])[0]["env"], cli.stderr

    def write(self, path, text, mode=0o600):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
        path.chmod(mode)

    def test_the_order(self, ws):
        self.write(ws.root / "conf" / ".env", b"A=conf\nB=conf\nC=\n")
        self.write(ws.root / ".env", b"\xef\xbb\xbfC=ws\nB=ws\nD='quoted'\nUNNAMED=1\n")
        env, said = self.sent(ws, ["A", "B", "C", "D", "E"], {"A": "shell", "D": ""})
        assert env == {"A": "shell", "B": "conf", "C": "ws", "D": "quoted"}
        assert "warning" not in said

    def test_a_used_file_that_others_can_read_is_warned_about(self, ws):
        self.write(ws.root / ".env", b"A=1\n", 0o644)
        assert f"chmod 600 {ws.root}/.env" in self.sent(ws, ["A"])[1]
        assert "chmod" not in self.sent(ws, ["A"], {"A": "2"})[1]
        assert "chmod" not in self.sent(ws, ["B"])[1]

    def test_a_file_that_is_no_text(self, ws):
        self.write(ws.root / ".env", b"A=\xff\xfe\n")
        code, said = self.sent(ws, ["A"])
        assert code == 2
        assert f"{ws.root}/.env cannot be read: not UTF-8" in said

    def test_it_is_not_opened_when_nothing_is_asked_for(self, ws):
        self.write(ws.root / ".env", b"A=\xff\xfe\n")
        assert self.sent(ws, [])[0] == {}


def test_wait_says_troubles_and_prints_a_summary(ws):
    waiting = [{"code": "network", "text": Text("no route").to_wire(), "since": NOW - 4, "next_try": NOW + 3}]
    pushes = [
        summary("A"),
        summary("A", waiting=waiting),
        summary("A", waiting=waiting, counts={"output": 130}),
        summary("A"),
        ended("A"),
    ]
    cli = Cli(ws, [daemon(), FakePeer(pushes=pushes)])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-wait") == 0
    said = [line for line in cli.stderr.splitlines() if line.startswith("A: ")]
    assert said == [
        "A: running · no route (for 0:00:04); next try in 0:00:03",
        "A: running",
    ]
    assert cli.stdout.startswith("task A completed\n")
    assert "300 in = 300 answered + 0 errors + 0 missing" in cli.stdout


def test_follow_shows_progress_beside_the_data(ws):
    cli = Cli(ws, [daemon(), FakePeer(pushes=[summary("A"), ended("A", counts={"output": 298, "error": 2})])])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-follow") == 1
    assert "41.0%" in cli.stderr
    assert "41.0%" not in cli.stdout
    assert "error_retry0.jsonl (2 lines)" in cli.stdout
    assert "hint: to try the failed and missing records again: batch_infer -retry A" in cli.stderr


def test_wait_json_is_one_object_at_the_end(ws):
    cli = Cli(ws, [daemon(), FakePeer(pushes=[summary("A"), ended("A")])])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-wait", "-json") == 0
    assert json.loads(cli.stdout)["state"] == "completed"


def test_follow_json_is_a_line_a_change(ws):
    cli = Cli(ws, [daemon(), FakePeer(pushes=[summary("A"), ended("A")])])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-follow", "-json") == 0
    assert [json.loads(line)["state"] for line in cli.stdout.splitlines()] == ["running", "completed"]


@pytest.mark.parametrize("manner", ["-wait", "-follow"])
def test_a_pause_that_a_person_must_mend_ends_the_waiting(ws, manner):
    pushes = [summary("A"), summary("A", state="paused", reason=reason("auth", "the password is refused"))]
    cli = Cli(ws, [daemon(), FakePeer(pushes=pushes)])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", manner) == 5
    assert "task A paused: the password is refused" in cli.stdout
    assert "batch_infer -resume A -config FILE" in cli.stderr


@pytest.mark.parametrize("code", ["network", "credit", "disk_full"])
def test_a_pause_that_mends_itself_does_not(ws, code):
    pushes = [summary("A", state="paused", reason=reason(code)), ended("A")]
    cli = Cli(ws, [daemon(), FakePeer(pushes=pushes)])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-wait") == 0
    assert "A: paused: because" in cli.stderr


def test_ctrl_c_ends_the_waiting_only(ws):
    cli = Cli(ws, [daemon(), FakePeer(pushes=[summary("A"), KeyboardInterrupt])])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A", "-wait") == 130
    assert "task A goes on running; to see it: batch_infer -monitor A" in cli.stderr


def test_an_input_without_permission(ws):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (ws.root / "in.jsonl").chmod(0)
    cli = Cli(ws, [])
    assert cli("-pipeline", "in.jsonl", "-task-id", "A") == 2
    assert "permission denied" in cli.stderr
