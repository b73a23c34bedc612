"""Publishing: whatever the crash, the outputs are those of one whole generation, or can be made so."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from journal_kit import Task, answer, error

from batch_inferd.merge.publish import StageLost, open_stage, publish, redo
from batch_inferd.seams import failpoint, files
from batch_inferd.seams.failpoint import EXIT_STATUS
from batch_inferd.seams.files import Directory

NAMES = {"output.jsonl", "error_retry0.jsonl", "missing_records.jsonl", "report.json"}


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    yield made
    made.close()


def content(task):
    return {path.name: path.read_bytes() for path in task.merged.path.iterdir()}


def test_all_four_files_always(task):
    task.simple(3)
    result = task.merge()
    assert os.listdir(task.merged.path) == [".stage-1"]
    assert (task.merged.path / ".stage-1").stat().st_mode & 0o777 == 0o700
    publish(task.merged, 1, result.files)
    assert set(content(task)) == NAMES
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in task.merged.path.iterdir())


def test_publishing_again_changes_nothing(task):
    task.simple(3)
    result = task.merge()
    publish(task.merged, 1, result.files)
    before = content(task)
    stored = json.loads(json.dumps(result.files))  # as it comes back from the database
    redo(task.merged, 1, stored)
    assert content(task) == before


def test_a_retry_publishes_the_next_generation_and_keeps_history(task):
    task.chunk(b"{}\n{}\n")
    task.journal(1, "aa", answer(1) + error(2))
    publish(task.merged, 1, task.merge().files)
    first = content(task)
    task.journal(1, "bb", answer(2, round=1))
    publish(task.merged, 2, task.merge(generation=2, round=1).files)
    second = content(task)
    assert set(second) == NAMES | {"error_retry1.jsonl"}
    assert second["error_retry0.jsonl"] == first["error_retry0.jsonl"] != b""
    assert second["error_retry1.jsonl"] == b""
    assert second["output.jsonl"].startswith(first["output.jsonl"])
    assert json.loads(second["report.json"])["generation"] == 2


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_failed_rename_is_done_later(task, monkeypatch, number, name):
    task.simple(3)
    result = task.merge()
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"rename:{name}={number}")
    with pytest.raises(OSError, match="planned") as caught:
        publish(task.merged, 1, result.files)
    assert caught.value.errno == number
    assert "report.json" not in content_names(task)
    monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
    redo(task.merged, 1, result.files)
    assert set(content(task)) == NAMES


def content_names(task):
    return set(os.listdir(task.merged.path))


def test_a_lost_stage_is_noticed(task):
    task.simple(3)
    result = task.merge()
    (task.merged.path / ".stage-1" / "output.jsonl").unlink()
    with pytest.raises(StageLost):
        redo(task.merged, 1, result.files)
    # A file of that size but with other bytes, say of an earlier generation, is not taken for it.
    size = result.files["output.jsonl"]["bytes"]
    (task.merged.path / "output.jsonl").write_bytes(b"x" * size)
    with pytest.raises(StageLost):
        redo(task.merged, 1, result.files)
    assert task.merge().identity


def test_a_stage_of_a_later_merge_is_not_what_was_committed(task):
    task.simple(3)
    committed = task.merge().files
    stage = task.merged.path / ".stage-1"
    task.merge(header={"left_out": 1})  # of the same generation; then killed amid its report
    whole = (stage / "report.json").read_bytes()
    (stage / "report.json").write_bytes(whole[:100])
    for act in (publish, redo):
        with pytest.raises(StageLost):
            act(task.merged, 1, committed)
        assert content_names(task) == {".stage-1"}  # nothing was renamed
    (stage / "report.json").write_bytes(b"x" * committed["report.json"]["bytes"])  # its size by chance
    with pytest.raises(StageLost):
        redo(task.merged, 1, committed)
    assert content_names(task) == {".stage-1"}
    result = task.merge()
    redo(task.merged, 1, result.files)
    assert content_names(task) == NAMES


def test_the_next_merge_removes_every_old_stage(task):
    task.simple(3)
    task.merge(generation=1)
    open_stage(task.merged, 7)
    (task.merged.path / ".stage-file").write_bytes(b"")
    result = task.merge(generation=2)
    assert content_names(task) == {".stage-2"}
    publish(task.merged, 2, result.files)
    assert content_names(task) == NAMES


def test_links_are_never_followed(task, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"keep")
    (precious / "output.jsonl").write_bytes(b"keep")
    (task.merged.path / ".stage-1").symlink_to(precious)
    (task.merged.path / "output.jsonl").symlink_to(precious / "output.jsonl")
    task.simple(3)
    result = task.merge()
    publish(task.merged, 1, result.files)
    assert [path.read_bytes() for path in sorted(precious.iterdir())] == [b"keep", b"keep"]
    assert not (task.merged.path / "output.jsonl").is_symlink()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_folder_that_was_removed_stays_removed(task, how):
    task.simple(3)
    result = task.merge()
    path = task.merged.path
    moved = path.with_name("elsewhere")
    path.rename(moved)
    if how == "replaced":
        path.mkdir()
    with pytest.raises(FileNotFoundError):
        publish(task.merged, 1, result.files)
    with pytest.raises(FileNotFoundError):
        task.merge(generation=2)
    assert path.exists() == (how == "replaced")
    if how == "replaced":
        assert list(path.iterdir()) == []
    assert os.listdir(moved) == [".stage-1"]


def test_a_folder_without_parent_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        Directory(tmp_path / "merged" / "t")
    assert not (tmp_path / "merged").exists()


def test_what_is_synced_before_what(task, monkeypatch):
    calls = []
    monkeypatch.setattr(files, "_check", lambda operation, name: calls.append((operation, name)))
    monkeypatch.setattr(
        "batch_inferd.merge.publish.failpoint", lambda name: calls.append(("failpoint", name))
    )
    task.simple(3)
    result = task.merge()
    staged = calls.index(("failpoint", "merge.staged"))
    for name in NAMES:
        assert calls.index(("sync", f".stage-1/{name}")) < calls.index(("sync", ".stage-1")) < staged
    assert calls.index(("sync", ".")) < staged
    calls.clear()
    publish(task.merged, 1, result.files)
    assert calls[0] == ("failpoint", "publish.committed")
    renamed = [name for operation, name in calls if operation == "rename"]
    assert set(renamed) == NAMES
    assert renamed[-1] == "report.json"
    assert calls.index(("rename", "report.json")) < calls.index(("sync", "."))
    assert calls.index(("sync", ".")) < calls.index(("failpoint", "publish.renamed_all"))


CRASH = """
import json, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from journal_kit import Task
from batch_inferd.merge.publish import publish
from batch_inferd.seams.failpoint import failpoint
task = Task(Path({root!r}))
task.simple(7)
files = task.merge().files
Path({root!r}, "committed").write_text(json.dumps(files))  # stands for the database
publish(task.merged, 1, files)
"""


@pytest.mark.parametrize(
    "point",
    [
        "merge.staged",
        "publish.committed",
        *(f"publish.renamed_one@{n}" for n in (1, 2, 3, 4)),
        "publish.renamed_all",
    ],
)
def test_a_crash_anywhere_is_made_good(tmp_path, point):
    root = tmp_path / "w"
    name, _, hit = point.partition("@")
    assert name in failpoint.FAILPOINTS
    code = CRASH.format(here=str(Path(__file__).parent), root=str(root))
    env = {**os.environ, "BATCH_INFER_FAILPOINTS": f"{name}=exit" + (f"@{hit}" if hit else "")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == EXIT_STATUS, done.stderr
    merged = Directory(root / "merged" / "t")
    published = set(os.listdir(merged.path)) & NAMES
    if (root / "committed").exists():
        redo(merged, 1, json.loads((root / "committed").read_text()))
        assert len(published) == {"publish.committed": 0, "publish.renamed_all": 4}.get(name, int(hit or 0))
    else:
        assert published == set()  # nothing was committed: recovery merges again
        again = Task.__new__(Task)
        again.directory, again.merged, again.rows = Directory(root / "chunks" / "t"), merged, []
        reference = Task(tmp_path / "rows")
        reference.simple(7)
        again.rows = reference.rows
        reference.close()
        publish(merged, 1, again.merge().files)
        again.directory.close()
    assert set(os.listdir(merged.path)) == NAMES
    merged.close()
    whole = Task(tmp_path / "whole")
    whole.simple(7)
    publish(whole.merged, 1, whole.merge().files)
    for file in NAMES:
        assert (root / "merged" / "t" / file).read_bytes() == (whole.merged.path / file).read_bytes()
    whole.close()
