"""Staged files whose blocks are hashed and written in a thread: the same bytes, and no failure is lost."""

import errno
import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from batch_inferd.merge import outputs
from batch_inferd.merge.outputs import OutputFile
from batch_inferd.seams.files import Directory


@pytest.fixture
def folder(tmp_path):
    directory = Directory(tmp_path)
    yield directory
    directory.close()


@pytest.fixture
def thread():
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.mark.parametrize("behind", [False, True])
def test_all_blocks_come_in_order(folder, thread, monkeypatch, behind):
    monkeypatch.setattr(outputs, "_BLOCK", 1000)
    monkeypatch.setattr(outputs, "_SYNC", 5000)
    out = OutputFile(folder, "out", thread if behind else None)
    lines = [b"%d" % n * (n % 400) for n in range(300)]
    for line in lines[:100]:
        out.write_line(line)
    out.write_lines(lines[100:])
    whole = b"".join(line + b"\n" for line in lines)
    assert out.finish() == {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    assert (folder.path / "out").read_bytes() == whole


def test_two_files_share_a_thread(folder, thread, monkeypatch):
    monkeypatch.setattr(outputs, "_BLOCK", 10)
    files = [OutputFile(folder, name, thread) for name in ("a", "b")]
    for n in range(100):
        files[n % 2].write_line(b"%d" % n)
    for file in files:
        file.finish()
    assert (folder.path / "b").read_text().split() == [str(n) for n in range(1, 100, 2)]


def test_a_failure_behind_is_raised_again_and_again(folder, thread, monkeypatch):
    """Who overlooks the first must not be told that all is written."""
    out = OutputFile(folder, "out", thread)
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:out={errno.ENOSPC}")
    out.write(b"x" * outputs._BLOCK)
    thread.submit(lambda: None).result()
    monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
    for _ in range(2):
        with pytest.raises(OSError, match="planned"):
            out.finish()
    out.abandon()
    out.abandon()
