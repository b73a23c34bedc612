"""-export: what it asks for, what it says, and how far it is."""

import json

import pytest
from cli_fakes import Cli, FakePeer, not_there

from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace
from batch_infer.render.console import Console
from batch_infer.render.working import Bar


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    return Workspace(tmp_path)


def answered(params):
    return {
        "path": params["out"],
        "format": params["format"],
        "tasks": params["tasks"],
        "records": 1257,
        "bytes": 4096,
        "sha256": "0" * 64,
    }


def test_several_tasks_and_the_format_by_name(ws, monkeypatch):
    monkeypatch.chdir(ws.root)
    peer = FakePeer({"export": answered})
    cli = Cli(ws, [peer])
    assert cli("-export", "a", "b", "a", "-out", "all.csv") == 0
    out = str(ws.root / "all.csv")
    assert peer.asked("export") == [{"tasks": ["a", "b"], "out": out, "format": "csv"}]
    assert cli.stdout == f"{out}\n"
    assert cli.stderr == "1,257 records, 4.0 KiB, are in\n"


def test_a_picture_stands_beside_the_report_unless_it_is_told_where(ws):
    peer = FakePeer({"export": answered})
    cli = Cli(ws, [peer, peer])
    assert cli("-export", "demo", "demo", "-format", "svg") == 0
    beside = str(ws.merged / "demo" / "run.svg")
    assert peer.asked("export") == [{"tasks": ["demo"], "out": beside, "format": "svg"}]
    assert cli.stdout == f"{beside}\n"
    assert cli("-export", "demo", "-out", str(ws.root / "p.svg")) == 0
    assert peer.asked("export")[1] == {"tasks": ["demo"], "out": str(ws.root / "p.svg"), "format": "svg"}


def test_json_and_everything_named(ws):
    peer = FakePeer({"export": answered})
    cli = Cli(ws, [peer])
    assert cli("-export", "a", "-out", "/x/all.txt", "-format", "tsv", "-encoding", "gb18030", "-json") == 0
    (params,) = peer.asked("export")
    assert (params["format"], params["encoding"]) == ("tsv", "gb18030")
    assert json.loads(cli.stdout)["records"] == 1257
    assert cli.stderr == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-export a", "-export needs a file to write"),
        ("-export a -out", "-out needs a value"),
        ("-export -out x.csv", "task-id must not be empty"),
        ("-export a b -format svg", "-export needs a file to write"),
        ("-export a -format csv", "-export needs a file to write"),
        ("-export a -out all", "does not say which format"),
        ("-export a -out x.csv -format cvs", "did you mean -format csv?"),
        ("-export a -out x.csv -encoding latin1", "write: -encoding utf-8-sig|utf-8|gb18030"),
        ("-list -out x.csv", "-out and -list do not go together"),
    ],
)
def test_what_cannot_be(ws, line, said):
    cli = Cli(ws, [FakePeer()])
    assert cli(*line.split()) == 2
    assert said in cli.stderr


def test_a_task_that_is_not_there(ws):
    cli = Cli(ws, [FakePeer({"export": lambda params: not_there({"task_id": params["tasks"][0]})})])
    assert cli("-export", "gone", "-out", "x.csv") == 3
    cli = Cli(ws, [FakePeer()])
    assert cli("-export", "../x", "-out", "x.csv") == 3


class Screen:
    """A stream that says it is a terminal."""

    def __init__(self):
        self.text = ""

    encoding = "utf-8"

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    screen, now = Screen(), [0.0]
    console = Console(screen, screen, "en", {})
    with Bar(console, Text("export"), lambda: now[0]) as bar:
        bar.show({"done": 1, "total": 10})
        assert screen.text == "", "what is over soon needs none"
        now[0] = 2.0
        bar.show({"done": 500, "total": 1000})
        assert screen.text.endswith("\rexport: [############............] 50.0% (500 of 1,000)")
        bar.show({"done": 501, "total": None})
        assert screen.text.split("\r")[-1].rstrip() == "export: 501"
    assert screen.text.endswith("\r"), "the line is empty again"


def test_lines_now_and_then_elsewhere(ws):
    cli = Cli(ws, [])
    bar = Bar(cli.console, Text("export"), cli.time.monotonic)
    for _ in range(25):
        cli.time.sleep(1.0)
        bar.show({"done": 1, "total": 4})
    assert cli.stderr == "export: 25.0% (1 of 4)\n" * 2
