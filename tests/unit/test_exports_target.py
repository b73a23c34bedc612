"""The file of an export: whole or not at all, whatever happens, and never in the place of what is needed."""

import asyncio
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from exports_kit import exported
from journal_kit import Task

from batch_infer.protocol.errors import DaemonUnavailable, UsageError
from batch_infer.protocol.exports import FORMATS, file_name, format_of
from batch_infer.protocol.text import Text
from batch_inferd.exports.export import Target
from batch_inferd.exports.reading import ExportStopped
from batch_inferd.requests.long import run_long


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    made.simple(7)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "导出"
    path.mkdir()
    return path


def write(task, path, form="jsonl", stop=None, advance=lambda _: None):
    target = Target(str(path))
    try:
        return target.write([exported(task)], form, "", advance, stop)
    finally:
        target.close()


def test_it_takes_the_place_of_what_was_there(task, folder):
    path = folder / "out.jsonl"
    path.write_text("old")
    done = []
    written = write(task, path, advance=done.append)
    assert written.records == 7
    assert written.facts["bytes"] == path.stat().st_size
    assert path.read_bytes().count(b"\n") == 7
    assert path.stat().st_mode & 0o777 == 0o600
    assert done == [3, 6, 7], "after each chunk"
    assert os.listdir(folder) == ["out.jsonl"]


@pytest.mark.parametrize("fault", ["write:out.jsonl=28@1", "sync:out.jsonl=5", "rename:out.jsonl=13"])
def test_a_failure_leaves_what_was_there(task, folder, monkeypatch, fault):
    path = folder / "out.jsonl"
    path.write_text("old")
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", fault)
    with pytest.raises(OSError, match="planned"):
        write(task, path)
    assert path.read_text() == "old"
    assert os.listdir(folder) == ["out.jsonl"]


def test_stopped_in_the_middle_nothing_is_left(task, folder):
    stop = threading.Event()
    with pytest.raises(ExportStopped):
        write(task, folder / "out.csv", "csv", stop, lambda _: stop.set())
    assert os.listdir(folder) == []


@pytest.mark.parametrize(("path", "said"), [("", "is a folder"), ("gone/out.csv", "does not exist")])
def test_a_place_that_cannot_be(task, folder, path, said):
    with pytest.raises(UsageError, match=said):
        write(task, folder / path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "link", "device"])
def test_what_is_no_file_stays(task, folder, kind):
    path, target = folder / "out.csv", folder / "target"
    target.write_text("precious")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(target)
    else:
        path = Path("/dev/null")
    before = path.lstat()
    with pytest.raises(UsageError, match=f"cannot be replaced: it is a {kind}"):
        Target(str(path))
    assert path.lstat() == before
    assert target.read_text() == "precious"


def test_formats_by_name():
    assert [format_of(f"a.b{suffix}") for suffix in FORMATS.values()] == list(FORMATS)
    assert format_of("A.CSV") == "csv"
    assert format_of("answers.txt") is None
    assert file_name("parquet") == "answers.parquet"
    assert file_name("svg") == "run.svg"


class FakePeer:
    def __init__(self):
        self.pushed = []
        self.callbacks = []
        self.was_told, self.was_asked = asyncio.Event(), asyncio.Event()

    def push(self, key, message):
        self.pushed.append(message["params"])
        self.was_told.set()

    def on_close(self, callback):
        self.callbacks.append(callback)
        self.was_asked.set()


def app(**changes):
    return SimpleNamespace(**({"stopping": False, "draining": False} | changes))


async def test_a_long_request_tells_how_far_it_is():
    peer, begun = FakePeer(), threading.Event()

    def work(progress, stop):
        progress.done, progress.total = 3, 9
        begun.wait(20)
        return "done"

    running = asyncio.ensure_future(run_long(app(), peer, work))
    await peer.was_told.wait()
    begun.set()
    assert await running == "done"
    assert peer.pushed[0] == {"done": 3, "total": 9}


def until_stopped(_progress, stop):
    assert stop.wait(20)
    raise ExportStopped


async def test_who_hangs_up_ends_it():
    peer = FakePeer()
    running = asyncio.ensure_future(run_long(app(), peer, until_stopped))
    await peer.was_asked.wait()
    peer.callbacks[0]()
    with pytest.raises(DaemonUnavailable):
        await running


async def test_so_does_a_daemon_that_ends_and_a_cancelled_request():
    with pytest.raises(DaemonUnavailable, match="the daemon is ending"):
        await run_long(app(draining=True), FakePeer(), until_stopped)
    running = asyncio.ensure_future(run_long(app(), FakePeer(), until_stopped))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_its_error_is_the_requests_error():
    def fails(_progress, _stop):
        raise UsageError(Text("no"))

    with pytest.raises(UsageError):
        await run_long(app(), FakePeer(), fails)
