"""Tab: what is offered, and that the scripts of bash, zsh and fish offer it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batch_infer.cli.complete import candidates
from batch_infer.cli.options import FLAGS
from batch_infer.cli.options.program import SHELLS


@pytest.fixture(autouse=True)
def ws(tmp_path, monkeypatch):
    for name in ("task_A", "task_B", "任务一", ".new-x", "not an id"):
        (tmp_path / "here" / "chunks" / name).mkdir(parents=True)
    (tmp_path / "there" / "chunks" / "other").mkdir(parents=True)
    (tmp_path / "here" / "in put.jsonl").touch()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-status t", ["task_A", "task_B"]),
        ("-pause ", ["task_A", "task_B", "任务一"]),
        ("-pause 任", ["任务一"]),
        ("-status=t", ["task_A", "task_B"]),
        ("-task-id = t", ["task_A", "task_B"]),
        ("-task-id =", ["task_A", "task_B", "任务一"]),
        ("-cancel task_A t", ["task_B"]),
        ("-pipeline ", [":files"]),
        ("-config x", [":files"]),
        ("-workspace ", [":folders"]),
        ("-status -workspace ../there ", ["other", "-json"]),
        ("-workspace=../there -cancel ", ["other"]),
        ("-workspace = ../there -cancel ", ["other"]),
        ("-workspace /nowhere -cancel ", []),
        ("-daemon s", ["start", "stop", "status"]),
        ("-completion ", list(SHELLS)),
        ("-mon", ["-monitor"]),
        ("--mon", ["--monitor"]),
        ("-monitor -o", ["-once"]),
        ("-monitor -li", []),
        ("-pipeline x -task-id A -w", ["-wait", "-workspace"]),
        ("-pipeline x -pipel", []),
        ("-json -l", ["-log-dir", "-log-level", "-list", "-logs"]),
        ("-retry A -ch", ["-chunks"]),
        ("-pause A -ch", []),
        ("-retry A -chunks ", []),
        ("-retry A -chunks 3,7 t", []),
        ("-d", ["-done", "-daemon", "-doctor"]),
        ("-doctor -c", ["-config"]),
        ("-doctor -config ", [":files"]),
        ("-set t", ["task_A", "task_B", "tpm="]),
        ("-set task_A conc", ["concurrency="]),
        ("-set task_A concurrency=3 c", []),
        ("-set rpm=5 -", ["-workspace", "-json"]),
        ("-mode ", ["asyncio", "threading", "multiprocessing"]),
        ("-resume task_A -p", ["-processes", "-priority"]),
        ("-unknown=x", []),
        ("-list x", []),
    ],
)
def test_candidates(words, expected):
    *before, current = words.split(" ")
    found = candidates(before, current)
    assert found[: len(expected)] == expected
    assert [c for c in found[len(expected) :] if not c.startswith("-")] == []


def test_an_optional_id_offers_flags_too():
    assert candidates(["-monitor"], "") == ["task_A", "task_B", "任务一", "-once", "-workspace", "-json"]


def test_nothing_yet_offers_all_flags():
    assert candidates([], "") == [f"-{flag.name}" for flag in FLAGS]


def test_the_workspace_of_the_environment(monkeypatch):
    monkeypatch.setenv("BATCH_INFER_WORKSPACE", "../there")
    assert candidates(["-pause"], "") == ["other"]


def test_it_imports_next_to_nothing():
    code = (
        "import sys; sys.argv = ['batch_infer', '-complete', 'bash', '-pause', '']\n"
        "from batch_infer.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "found = {'click', 'asyncio', 'rich', 'json', 'yaml', 'httpx'} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.stderr == b""
    assert done.stdout.decode().split() == ["task_A", "task_B", "任务一"]


@pytest.fixture
def path(tmp_path):
    """A PATH whose batch_infer is the one under test."""
    command = tmp_path / "bin" / "batch_infer"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m batch_infer "$@"\n')
    command.chmod(0o755)
    return f"{command.parent}:{os.environ['PATH']}"


def shell(path, *command):
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == b""
    return done.stdout.decode().splitlines()


LINES = [
    (["-status", "t"], {"task_A", "task_B"}),
    (["-status", "任"], {"任务一"}),
    (["-mon"], {"-monitor"}),
    (["--mon"], {"--monitor"}),
    (["-pipeline", "in"], {"in put.jsonl"}),
    (["-workspace", "ch"], {"chunks"}),
    (["-set", "task_A", "conc"], {"concurrency="}),
    (["-cancel", "task_A", ""], {"task_B", "任务一", "-workspace", "-json"}),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        *LINES,
        (["-task-id", "=", "task_"], {"task_A", "task_B"}),
        (["-task-id=task_"], {"-task-id=task_A", "-task-id=task_B"}),
        (["-pipeline", "="], {"chunks", "in put.jsonl"}),
    ],
)
def test_bash(path, words, expected):
    code = (
        'eval "$(batch_infer -completion bash)"\n'
        'complete -p batch_infer | grep -q -- "-F _batch_infer" || echo no completion\n'
        'COMP_WORDS=(batch_infer "$@"); COMP_CWORD=$#; COMPREPLY=()\n'
        "_batch_infer batch_infer\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert set(shell(path, "bash", "--norc", "-c", code, "bash", *words)) == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
@pytest.mark.parametrize(("words", "expected"), [*LINES, (["-task-id=task_"], {"task_A", "task_B"})])
def test_zsh(path, words, expected):
    """The widgets of zsh exist only at a prompt, so those that the script calls are replaced."""
    code = (
        "compdef() { [[ $2 == batch_infer ]] || echo wrong command }\n"
        "compset() { return 0 }\n"
        "compadd() { print -rl -- $values $keys }\n"
        "_files() { if [[ $1 == -/ ]]; then print -rl -- ch*(/); else print -rl -- in*; fi }\n"
        'eval "$(batch_infer -completion zsh)"\n'
        'words=(batch_infer "$@"); CURRENT=$#words\n'
        "_batch_infer"
    )
    assert set(shell(path, "zsh", "-f", "-c", code, "zsh", *words)) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
@pytest.mark.parametrize(
    ("words", "expected"),
    [*LINES, (["-task-id=task_"], {"-task-id=task_A", "-task-id=task_B"})],
)
def test_fish(path, words, expected):
    line = " ".join(["batch_infer", *(word or "''" for word in words[:-1]), words[-1]])
    code = "batch_infer -completion fish | source; complete -C $argv[1]"
    found = shell(path, "fish", "--no-config", "-c", code, line)
    assert {entry.partition("\t")[0].rstrip("/") for entry in found} == expected


def test_the_scripts_are_in_the_package():
    import batch_infer

    folder = Path(batch_infer.__file__).parent / "completion"
    assert {f"batch_infer.{name}" for name in SHELLS} <= {path.name for path in folder.iterdir()}
