"""-validate, -clean, -cleanup and the choices of -retry on the command line: requests, texts, exit codes."""

import io
import json
import sys

import pytest
from cli_fakes import NOW, Cli, FakePeer, ended, summary

from batch_infer.cli.parser import parse
from batch_infer.cli.request import Request
from batch_infer.protocol.errors import UsageError
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    return Workspace(tmp_path)


def finding(what, text, **values):
    wire = Text(text, values).to_wire()
    return {"what": what, "text": wire, "count": 1, "lines": [3], "of": []}


def checked(state="intact", *findings, **changes):
    file = {"name": "output.jsonl", "state": state, "bytes": 5, "expected": None, "backup": None}
    content = {
        "lines": 3,
        "blank": 0,
        "answers": 3,
        "errors": 0,
        "finish_reasons": {"stop": 2, "length": 1},
        "empty": {"count": 0, "lines": []},
        "cut": {"count": 1, "lines": [2]},
        "repeated_ids": {"count": 1, "lines": [3]},
    }
    return {
        "task_id": "demo",
        "path": "/ws/merged/demo",
        "ok": state in ("intact", "rebuilt"),
        "files": [file | {"findings": list(findings)} | changes],
        "content": content,
        "findings": [],
    }


def test_the_grammar():
    assert parse(["-validate"]) == Request("validate")
    assert parse(["-validate", "A", "-repair"]) == Request("validate", ids=("A",), repair=True)
    assert parse(["-clean"]) == Request("clean")
    assert parse(["-clean", "A", "B", "-keep-latest", "-yes"]) == Request(
        "clean", ids=("A", "B"), keep_latest=True, yes=True
    )
    assert parse(["-retry", "A", "-only", "missing", "-rows", "f", "-chunks", "3"]) == Request(
        "retry", ids=("A",), only="missing", rows="f", chunks=((3, 3),)
    )
    assert parse(["-pipeline", "i", "-task-id", "A", "-cleanup", "-yes"]).cleanup


@pytest.mark.parametrize(
    "line", ["-retry A -only", "-retry A -only all", "-retry A -rows", "-list -yes", "-validate A -schema"]
)
def test_what_is_refused(line):
    with pytest.raises(UsageError):
        parse(line.split())


def test_an_intact_task(ws):
    peer = FakePeer({"validate": lambda _: checked()})
    cli = Cli(ws, [peer])
    assert cli("-validate", "demo") == 0
    assert cli.stdout.splitlines() == [
        "demo: nothing is wrong",
        "  output.jsonl: as it was written",
        "  3 lines, 3 answers",
        "  ended by: stop 2, length 1",
        "  1 line has the id of an earlier one, as in the input",
    ]
    assert peer.asked("validate") == [{"repair": False, "task_id": "demo"}]


def test_damage_has_code_1_and_a_way_out(ws):
    damage = checked("damaged", finding("edited", "line {line} was changed", line=3))
    cli = Cli(ws, [FakePeer({"validate": lambda _: damage})])
    assert cli("-validate", "demo") == 1
    assert "  output.jsonl: damaged\n    - line 3 was changed\n" in cli.stdout
    assert "batch_infer -validate demo -repair" in cli.stderr
    assert cli("-validate", "demo", "-json") == 1
    shown = json.loads(cli.stdout.splitlines()[-1])
    assert shown["ok"] is False
    assert shown["results"][0]["files"][0]["findings"][0]["text"] == "line 3 was changed"


def test_what_cannot_be_rebuilt_has_no_such_hint(ws):
    lost = checked("damaged", finding("journals", "the journals do not give it"))
    cli = Cli(ws, [FakePeer({"validate": lambda _: lost})])
    assert cli("-validate", "demo") == 1
    assert "-repair" not in cli.stderr


def test_a_file_of_an_earlier_round_has_no_such_hint_either(ws):
    old = checked("damaged", finding("edited", "edited"), finding("earlier", "of an earlier round"))
    cli = Cli(ws, [FakePeer({"validate": lambda _: old})])
    assert cli("-validate", "demo") == 1
    assert "    - of an earlier round\n" in cli.stdout
    assert "-repair" not in cli.stderr


def test_a_rebuilt_file_and_its_backup(ws):
    cli = Cli(ws, [FakePeer({"validate": lambda _: checked("rebuilt", backup="output.jsonl.bak-1")})])
    assert cli("-validate", "demo", "-repair") == 0
    assert "rebuilt from the journals; what was there is in output.jsonl.bak-1" in cli.stdout


def test_without_a_name_all_that_have_ended(ws):
    peer = FakePeer(
        {
            "list": lambda _: {"tasks": [ended("a"), summary("b"), ended("c")], "next": None},
            "validate": lambda params: checked() | {"task_id": params["task_id"]},
        }
    )
    cli = Cli(ws, [peer])
    assert cli("-validate", "-json") == 0
    assert [result["task_id"] for result in json.loads(cli.stdout)["results"]] == ["a", "c"]


def test_a_file_beats_a_task_that_is_not_there(ws, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").write_text("")
    (tmp_path / "demo").write_text("")
    peer = FakePeer({"validate": lambda params: checked() | {"task_id": params.get("task_id")}})
    cli = Cli(ws, [peer])
    cli("-validate", "other")
    cli("-validate", "demo")
    cli("-validate", "./demo")
    cli("-validate", "gone")
    assert [params.get("path") or params["task_id"] for params in peer.asked("validate")] == [
        str(tmp_path / "other"),
        "demo",
        str(tmp_path / "demo"),
        "gone",
    ]


ROW = {"task_id": "demo", "uuid": "u", "state": "completed", "created": NOW, "answers": 300}


def cleaner(*rows, **more):
    found = {"tasks": list(rows), "kept": None, "refused": [], "more": False} | more

    def clean(params):
        if "remove" not in params:
            return found
        return {"removed": [name for name, _ in params["remove"]], "refused": []}

    return FakePeer({"clean": clean})


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("said", "goes"), [("y\n", True), ("是\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_clean_asks(ws, monkeypatch, said, goes):
    peer = cleaner(ROW)
    cli = Cli(ws, [peer])
    monkeypatch.setattr(sys, "stdin", Terminal(said))
    assert cli("-clean", "demo") == 0
    assert "task demo of" in cli.stderr
    assert "[y/N]" in cli.stderr
    removed = [params["remove"] for params in peer.asked("clean") if "remove" in params]
    assert removed == ([[["demo", "u"]]] if goes else [])
    assert ("task demo is removed" in cli.stdout) == goes


def test_clean_without_anybody_to_ask(ws, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    peer = cleaner(ROW)
    cli = Cli(ws, [peer])
    assert cli("-clean") == 2
    assert "-yes" in cli.stderr
    assert cli("-clean", "-yes", "-json") == 0
    assert json.loads(cli.stdout)["removed"] == ["demo"]
    assert peer.asked("clean")[0] == {"keep_latest": False}


def test_clean_tells_what_it_does_not_remove(ws):
    refusal = {"task_id": "b", "error": "task_conflict", "text": Text("it is busy").to_wire()}
    cli = Cli(ws, [cleaner(kept="c", refused=[refusal])])
    assert cli("-clean", "b", "c", "-keep-latest") == 3
    assert "task b was not removed: it is busy" in cli.stderr
    assert "task c is kept" in cli.stderr


def test_clean_tells_once_what_to_do_about_it(ws):
    def refusal(name):
        hints = [Text("move it away").to_wire()]
        text = Text("what {id} has cost cannot be kept", {"id": name}).to_wire()
        return {"task_id": name, "error": "task_conflict", "text": text, "hints": hints}

    cli = Cli(ws, [cleaner(refused=[refusal("b"), refusal("c")])])
    assert cli("-clean", "b", "c") == 3
    assert "task c was not removed: what c has cost cannot be kept" in cli.stderr
    assert cli.stderr.count("hint: move it away") == 1
    cli = Cli(ws, [cleaner(refused=[refusal("b"), refusal("c")])])
    assert cli("-clean", "b", "c", "-json") == 3
    assert [one["hints"] for one in json.loads(cli.stdout)["refused"]] == [["move it away"]] * 2


def test_an_empty_workspace_has_nothing_to_clean(tmp_path):
    cli = Cli(Workspace(tmp_path), [])
    assert cli("-clean", "-yes") == 0
    assert "no task was removed" in cli.stderr


def test_retry_of_some(ws, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = {"state": "running", "round": 1, "records": 2, "unmatched": 3}
    peer = FakePeer({"retry": lambda _: answer})
    cli = Cli(ws, [peer])
    assert cli("-retry", "demo", "-only", "failed", "-rows", "rows.txt") == 0
    rows = str(tmp_path / "rows.txt")
    assert peer.asked("retry") == [{"task_id": "demo", "only": "failed", "rows": rows}]
    assert "3 entries of rows.txt name no such record" in cli.stderr
    answer |= {"state": "completed", "records": 0}
    cli("-retry", "demo", "-only", "missing")
    assert "no record that was not answered is among those chosen" in cli.stderr


def test_retry_of_invalid_answers(ws):
    kinds = {"cut": 2, "empty": 1, "schema": 1_234}
    answer = {"state": "running", "round": 1, "records": 1_237, "unmatched": 0, "invalid": kinds}
    peer = FakePeer({"retry": lambda _: answer})
    cli = Cli(ws, [peer])
    assert cli("-retry", "demo", "-only", "invalid") == 0
    assert peer.asked("retry") == [{"task_id": "demo", "only": "invalid"}]
    for words in (
        "round 1: 1,237 records are tried again",
        "2 answers had ended at the limit of tokens",
        "1 answer was empty",
        "1,234 answers did not follow the schema",
    ):
        assert words in cli.stderr
    assert "max_tokens" not in cli.stderr
    answer |= {"max_tokens": 1024}
    cli("-retry", "demo", "-only", "invalid", "-json")
    assert "max_tokens is 1,024, as it was" in cli.stderr
    assert json.loads(cli.stdout.splitlines()[-1])["invalid"] == kinds
    answer |= {"state": "completed", "records": 0, "invalid": {}}
    del answer["max_tokens"]
    cli("-retry", "demo", "-only", "invalid")
    assert "task demo has no invalid answers" in cli.stderr
    cli("-retry", "demo", "-only", "invalid", "-chunks", "3")
    assert "no invalid answer is among those chosen" in cli.stderr
