"""Only one at a time writes a prepared file; the other one is told who does."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batch_infer.protocol.errors import InputError
from batch_inferd.intake.prepare import prepare
from batch_inferd.intake.writing import Writing, lock_name
from batch_inferd.sources.open import open_source
from batch_inferd.sources.spec import SourceSpec

TOPICS = ["sun", "sea", "sand"]


def place(tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    return folder / "out.jsonl"


def write(out, shaper, owner="/data/one"):
    source = open_source(SourceSpec(kind="topics", topics=TOPICS))
    return prepare(source, out, shaper, made_of={}, owner=owner)


def test_the_second_is_refused_and_told_who_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("batch_inferd.intake.prepare.Writing", impatient)
    out = place(tmp_path)
    began, go_on = threading.Event(), threading.Event()

    def slow(line, _number):
        began.set()
        assert go_on.wait(60)
        return line

    first = threading.Thread(target=write, args=(out, slow))
    first.start()
    assert began.wait(60)
    before = out.with_name(".out.jsonl.prepare").read_bytes()
    with pytest.raises(InputError, match="that of the workspace /data/one") as refused:
        write(out, lambda line, _number: line, "/data/two")
    assert f"process {os.getpid()} on " in str(refused.value)
    assert out.with_name(".out.jsonl.prepare").read_bytes() == before
    go_on.set()
    first.join(60)
    assert out.read_bytes().count(b"\n") == len(TOPICS)
    assert [path.name for path in out.parent.iterdir()] == ["out.jsonl"]


def impatient(out, owner):
    return Writing(out, owner, 0.0)


def test_another_process_holds_it_until_it_dies(tmp_path):
    out = place(tmp_path)
    code = (
        "import sys; from pathlib import Path; from batch_inferd.intake.writing import Writing\n"
        "held = Writing(Path(sys.argv[1]), 'theirs'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=rf"workspace theirs \(process {process.pid} on "):
            Writing(out, "ours", 0.0)
        process.kill()
    # What a dead one left is taken over, and goes in the end.
    Writing(out, "ours", 0.0).end()
    assert not list(out.parent.iterdir())


def test_who_just_ends_is_waited_for(tmp_path):
    out = place(tmp_path)
    held = Writing(out, "one")
    soon = threading.Timer(0.1, held.end)
    soon.start()
    Writing(out, "two", 60.0).end()
    soon.join()


def test_a_holder_that_cannot_be_read_is_still_a_holder(tmp_path):
    out = place(tmp_path)
    held = Writing(out, "one")
    out.with_name(lock_name(out)).write_text('{"since": "x"')
    with pytest.raises(InputError, match="another -prepare writes the file"):
        Writing(out, "two", 0.0)
    held.end()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "name", ["out.jsonl", ".out.jsonl.prepare", "out.errors.jsonl", lock_name(Path("out.jsonl"))]
)
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_stands_in_the_place_of_one_of_its_files(tmp_path, name, kind):
    out, target = place(tmp_path), tmp_path / "target"
    target.write_bytes(b"precious\n")
    path = out.with_name(name)
    if kind == "link":
        path.symlink_to(target)
    else:
        {"pipe": os.mkfifo, "folder": os.mkdir}[kind](path)
    with pytest.raises((InputError, OSError)):
        write(out, lambda line, _number: line)
    assert target.read_bytes() == b"precious\n"
    assert os.listdir(out.parent) == [name]
