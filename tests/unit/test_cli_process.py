"""The program as a process: imports, pipes, terminals, encodings, signals."""

import ast
import json
import os
import pty
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cli_fakes import NOW, ended, not_there, summary
from stub_daemon import StubDaemon

PROGRAM = [sys.executable, "-m", "batch_infer"]
HEAVY = {"httpx", "yaml", "sqlite3", "rich", "asyncio", "batch_inferd"}
LOAD = {"cpu": 1.0, "rss": 1024, "workers": []}


@pytest.fixture
def ws(tmp_path):
    root = tmp_path / "ws"
    (root / "chunks" / "demo").mkdir(parents=True)
    return root


def refuse(params):
    raise not_there(params)


@pytest.fixture
def daemon(ws, short_tmp):
    handlers = {
        "list": lambda _: {"tasks": [summary(), ended("任务一")], "next": None},
        "status": lambda p: summary(p["task_id"]) | {"chunks": [], "next": None},
        "cancel": lambda _: {"state": "cancelled", "cancelling": False},
        "pause": lambda _: {"state": "paused"},
        "resume": lambda _: {"state": "running", "reason": None, "warnings": []},
        "retry": refuse,
        "subscribe": lambda _: {"tasks": [summary()], "daemon": LOAD},
        "daemon.status": lambda _: LOAD | {"pid": 1, "version": "0", "started": NOW, "tasks": {}},
    }
    with StubDaemon(ws, short_tmp, handlers) as stub:
        yield stub


def cli(ws, *arguments, env=None, **options):
    options = {"capture_output": True, "timeout": 60, "cwd": ws} | options
    return subprocess.run([*PROGRAM, *arguments], env={**os.environ, **(env or {})}, check=False, **options)


@pytest.mark.parametrize(
    "line", ["-list", "-status demo", "-status", "-cancel demo", "-pause demo", "-resume demo"]
)
def test_quick_verbs_import_nothing_heavy(ws, daemon, line):
    code = (
        "import sys\n"
        "from batch_infer.cli.app import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *line.split()], cwd=ws, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == b""
    assert done.stdout


def test_the_client_never_imports_the_daemon():
    import batch_infer

    found = [
        path.name
        for path in Path(batch_infer.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("batch_inferd"))
        or (isinstance(node, ast.Import) and any(a.name.startswith("batch_inferd") for a in node.names))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", [["-list"], ["-status"], ["-monitor"], ["-cancel", "x"], ["-monitor", "-once"]]
)
def test_an_empty_workspace_stays_empty(tmp_path, line):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = cli(empty, *line)
    assert done.returncode == (3 if "x" in line else 0)
    assert list(empty.iterdir()) == []


def test_a_workspace_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    done = cli(tmp_path, "-list", "-workspace", "file")
    assert done.returncode == 2
    assert b"file is not a folder\n" in done.stderr
    assert b"mkdir" not in done.stderr
    done = cli(tmp_path, "-list", "-workspace", "none")
    assert done.returncode == 2
    assert b"none does not exist\nhint: create it first: mkdir -p " in done.stderr


def test_data_and_messages_go_to_their_streams(ws, daemon):
    done = cli(ws, "-cancel", "demo")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"task demo: cancelled\n", b"")
    done = cli(ws, "-retry", "demo")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"error: there is no task demo in")


def test_a_reader_that_goes_away_is_no_error(ws, daemon):
    daemon.handlers["list"] = lambda _: {"tasks": [summary(f"t{n}") for n in range(300)], "next": None}
    read, write = os.pipe()
    os.close(read)
    done = cli(ws, "-list", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_output_that_cannot_be_written(ws, daemon):
    with open("/dev/full", "wb") as full:
        done = cli(ws, "-list", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 4
    assert done.stderr.startswith(b"error: [Errno 28]")
    assert b"Traceback" not in done.stderr


def test_a_bug_does_not_look_like_an_end_with_failed_records(ws, daemon):
    daemon.handlers["list"] = lambda _: {"tasks": [{"task_id": "x"}], "next": None}
    done = cli(ws, "-list")
    assert done.returncode == 4
    assert b"KeyError" in done.stderr


def test_a_list_is_quick(ws, daemon):
    """At most three times as long as the import of click alone: the median of pairs, side by side."""

    def timed(*arguments):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ws, check=True, capture_output=True, timeout=60)
        return time.perf_counter() - start

    ratios = [timed("-m", "batch_infer", "-list") / timed("-c", "import click") for _ in range(15)]
    assert statistics.median(ratios) <= 3


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(ws, daemon, closed):
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m batch_infer -list {closed}', sys.executable],
        cwd=ws,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("gbk", "任务一".encode("gbk")), ("ascii", b"???"), ("utf-8", "任务一".encode())],
)
def test_a_console_of_any_encoding(ws, daemon, encoding, shown):
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "BATCH_INFER_LANG": "zh"}
    for line in (["-list"], ["-help"], ["-status", "demo"], ["-monitor", "-once"], ["-nonsense"]):
        done = cli(ws, *line, env=env)
        assert done.returncode in (0, 2), done.stderr
        assert b"Traceback" not in done.stderr
        if line == ["-list"]:
            assert shown in done.stdout


@pytest.mark.parametrize("encoding", ["gbk", "ascii", "gb18030", "utf-8"])
def test_json_survives_any_encoding(ws, daemon, encoding):
    daemon.handlers["list"] = lambda _: {"tasks": [summary("任务一", model="🙂")], "next": None}
    done = cli(ws, "-list", "-json", env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    (task,) = json.loads(done.stdout.decode(encoding))["tasks"]
    assert (task["task_id"], task["model"]) == ("任务一", "🙂")


def test_chinese_by_the_locale_and_by_the_variable(ws, daemon):
    for env in ({"LC_ALL": "zh_CN.UTF-8"}, {"BATCH_INFER_LANG": "zh"}):
        done = cli(ws, "-pipeline", "x", env=env)
        assert "错误：task-id 参数不能为空" in done.stderr.decode()
    done = cli(ws, "-pipeline", "x", env={"LC_ALL": "zh_CN.UTF-8", "BATCH_INFER_LANG": "en"})
    assert "error: task-id must not be empty" in done.stderr.decode()


def test_ctrl_c(ws, daemon):
    subscribed = threading.Event()
    daemon.on_subscribe = lambda _: subscribed.set()
    process = subprocess.Popen(
        [*PROGRAM, "-monitor", "demo"], cwd=ws, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().split()[1:3] == [b"demo", b"running"]
    assert subscribed.wait(60)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"goes on running" in err


def test_the_monitor_survives_a_crash(ws, daemon):
    """The connection ends, the beacon stays: the next daemon is asked for everything again."""

    def crash(_):
        daemon.handlers["subscribe"] = lambda _: {"tasks": [ended()], "daemon": LOAD}
        daemon.connections[-1].close()

    daemon.on_subscribe = crash
    process = subprocess.Popen(
        [*PROGRAM, "-monitor", "demo", "-json"], cwd=ws, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["running", "completed"]
    assert b"the connection to the daemon was lost; connecting again" in err


class TestTerminal:
    """Under a pseudo-terminal: redrawn and coloured, unless NO_COLOR or a dumb terminal says otherwise."""

    def run(self, ws, *arguments, **env):
        main, other = pty.openpty()
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **env}
        process = subprocess.Popen(
            [*PROGRAM, *arguments], cwd=ws, env=environ, stdin=other, stdout=other, stderr=other
        )
        os.close(other)
        shown = b""
        try:
            while part := os.read(main, 65536):
                shown += part
        except OSError:  # Linux says EIO when the other side is closed
            pass
        os.close(main)
        return process.wait(60), shown.decode()

    def push_end(self, daemon):
        daemon.on_subscribe = lambda push: push(
            {"tasks": [ended(counts={"output": 299, "error": 1})], "daemon": LOAD}
        )

    def test_live(self, ws, daemon):
        self.push_end(daemon)
        code, shown = self.run(ws, "-monitor", "demo")
        assert code == 1
        assert "\x1b[?25l" in shown
        assert "\x1b[?25h" in shown
        assert re.search(r"\x1b\[[0-9;]*m", shown)
        assert "task demo completed" in shown

    def test_no_color(self, ws, daemon):
        self.push_end(daemon)
        shown = self.run(ws, "-monitor", "demo", NO_COLOR="1")[1]
        assert not re.search(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", shown)
        assert "\x1b[31m" in self.run(ws, "-nonsense")[1].replace("\x1b[1m", "")
        assert "\x1b" not in self.run(ws, "-nonsense", NO_COLOR="1")[1]

    def test_a_dumb_terminal_gets_lines(self, ws, daemon):
        self.push_end(daemon)
        shown = self.run(ws, "-monitor", "demo", TERM="dumb")[1]
        assert "\x1b" not in shown
        assert "  demo  completed · 100.0%" in shown

    def test_a_list_has_no_control_characters(self, ws, daemon):
        assert "\x1b" not in self.run(ws, "-list")[1]
