"""-doctor: what is sent, a line a check, JSON, exit codes, consoles without the marks."""

import base64
import json
import os
import subprocess
import sys

import pytest
from cli_fakes import Cli, FakePeer
from stub_daemon import StubDaemon

from batch_infer.protocol.errors import ConfigError, DaemonUnavailable
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace
from batch_infer.render.doctor_text import doctor_lines


def check(name, ok, text, hint=None):
    wire = Text("{text}", {"text": text}).to_wire()
    return {"name": name, "ok": ok, "text": wire, "hint": hint and Text(hint).to_wire()}


GOOD = check("daemon", True, "version 0.2.0")
BAD = check("credential", False, "the key is refused", "correct `password` in the config")
UNKNOWN = check("model", None, "the service lists no models")


@pytest.fixture
def ws(tmp_path, monkeypatch):
    folder = tmp_path / "ws"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Workspace(folder)


def daemon(*checks, ok=True, variables=()):
    return FakePeer(
        {
            "config.variables": lambda _: {"variables": list(variables)},
            "doctor": lambda _: {"checks": list(checks), "ok": ok},
        }
    )


def test_without_a_config_none_is_sent(ws):
    peer = daemon(GOOD)
    cli = Cli(ws, [peer])
    cli.set(find=lambda _: None, environ={"http_proxy": "http://p:1"})  # so it is started
    assert cli("-doctor") == 0
    assert peer.calls == [("doctor", {})]
    assert cli.stdout == "✓ daemon: version 0.2.0\n"
    assert f"note: there is no config file {ws.root}/config.yaml; no service is checked\n" in cli.stderr
    assert peer.closed
    assert peer.patience["doctor"] > 100  # names, connections and calls that nobody answers


@pytest.mark.parametrize("option", [[], ["-config", "other.yaml"]])
def test_a_config_is_sent_as_for_a_submit(ws, option):
    name = option[1] if option else "config.yaml"
    (ws.root / name).write_bytes(b"model: {}\n")
    peer = daemon(GOOD, variables=["KEY"])
    cli = Cli(ws, [peer])
    cli.set(environ={"KEY": "s3cret", "OTHER": "x", "http_proxy": "http://p:1"})
    assert cli("-doctor", *option) == 0
    assert peer.asked("doctor") == [
        {
            "config": base64.b64encode(b"model: {}\n").decode(),
            "config_path": str(ws.root / name),
            "env": {"KEY": "s3cret"},
            "proxy": {"http": "http://p:1"},
        }
    ]
    assert cli.stderr == ""


def test_a_line_a_check_with_its_hint_below(ws):
    cli = Cli(ws, [daemon(GOOD, BAD, UNKNOWN, ok=False)])
    assert cli("-doctor") == 2
    assert cli.stdout.splitlines() == [
        "✓ daemon: version 0.2.0",
        "✗ credential: the key is refused",
        "  hint: correct `password` in the config",
        "? model: the service lists no models",
    ]


def test_what_cannot_be_told_is_no_failure(ws):
    assert Cli(ws, [daemon(UNKNOWN)])("-doctor") == 0


def test_json(ws):
    cli = Cli(ws, [daemon(GOOD, BAD, UNKNOWN, ok=False)])
    assert cli("-doctor", "-json") == 2
    shown = json.loads(cli.stdout)
    assert list(shown) == ["schema", "ok", "checks"]
    assert (shown["schema"], shown["ok"]) == (1, False)
    assert shown["checks"] == [
        {"name": "daemon", "ok": True, "text": "version 0.2.0", "hint": None},
        {
            "name": "credential",
            "ok": False,
            "text": "the key is refused",
            "hint": "correct `password` in the config",
        },
        {"name": "model", "ok": None, "text": "the service lists no models", "hint": None},
    ]


def test_chinese_with_english_where_nobody_translated(ws):
    checks = [check("模型", False, "没有 gpt-无", "do {this} in 第三步")]
    cli = Cli(ws, [daemon(*checks, ok=False)], lang="zh")
    assert cli("-doctor") == 2
    assert cli.stdout == "✗ 模型：没有 gpt-无\n  提示：do {this} in 第三步\n"


def test_a_named_config_that_is_not_there(ws):
    cli = Cli(ws, [])
    assert cli("-doctor", "-config", "none.yaml") == 2
    assert f"{ws.root}/none.yaml does not exist" in cli.stderr


def test_a_config_with_problems(ws):
    (ws.root / "config.yaml").touch()
    error = ConfigError(Text("it has errors"), problems=(Text("config.yaml:7:16: one"),))
    cli = Cli(ws, [FakePeer({"config.variables": lambda _: error})])
    assert cli("-doctor") == 2
    assert cli.stderr == "error: it has errors\nconfig.yaml:7:16: one\n"


def test_a_word_that_is_no_option(ws):
    (ws.root / "mine.yaml").touch()
    cli = Cli(ws, [])
    assert cli("-doctor", "mine.yaml") == 2
    assert "unexpected argument 'mine.yaml'" in cli.stderr


def test_a_daemon_that_does_not_start(ws):
    assert Cli(ws, [DaemonUnavailable(Text("no disk"))])("-doctor") == 4


def test_hostile_and_long_texts():
    lines = doctor_lines([check("na\x1b[2Jme", False, "two\nlines\x07", "a\nb\x9b1m")], "en", "utf-8")
    assert lines == [
        "✗ na\ufffd[2Jme: two",
        "  lines\ufffd",
        "  hint: a",
        "    b\ufffd1m",
    ]


@pytest.mark.parametrize("encoding", ["gbk", "ascii", "no-such-encoding"])
def test_marks_that_a_console_lacks_never_look_like_unknown(encoding):
    marks = [line[0] for line in doctor_lines([GOOD, BAD, UNKNOWN], "en", encoding) if line[0] != " "]
    assert marks == ["+", "x", "?"]


@pytest.mark.parametrize(("encoding", "mark"), [("gbk", b"x"), ("utf-8", "✗".encode())])
def test_a_process_of_its_own(ws, short_tmp, encoding, mark):
    handlers = {
        "config.variables": lambda _: {"variables": []},
        "doctor": lambda _: {"checks": [check("凭证", False, "被拒绝")], "ok": False},
    }
    (ws.root / "config.yaml").write_text("model: {}\n")
    with StubDaemon(ws.root, short_tmp, handlers) as stub:
        done = subprocess.run(
            [sys.executable, "-m", "batch_infer", "-doctor"],
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
            cwd=ws.root,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, b"")
    assert done.stdout == mark + b" " + "凭证: 被拒绝\n".encode(encoding)
    assert [name for name, _ in stub.asked if name != "hello"] == ["config.variables", "doctor"]
